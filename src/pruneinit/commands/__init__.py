"""A file for each command of the command line, which is imported when the command is given.

Each has `carry_out(settings)`: it takes what `flags` has read, works with the library, says what there is to say, and
returns the exit code where it is not 0. `recipes` is what those share that carry out a recipe.
"""
