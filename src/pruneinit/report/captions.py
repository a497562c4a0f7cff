"""What each figure shows and what to look for, for readers who see it for the first time."""

DENSITIES = (
    "The share of each layer's weights that pruning kept, in the order of the model, input first. Look for layers far "
    "shorter than the others: they run empty first when the network is pruned harder. An empty layer lets no signal "
    "through."
)

MOMENTS = (
    "The mean square of each layer's output on one batch, on a logarithmic scale, from the input (left) to the output "
    "(right). A level line means that the signal gets through. A falling line means that it fades out on the way, a "
    "rising one that it blows up: either way the network learns badly, if at all."
)

RESCALED = " Rescaling is meant to bring the pruned network back to the line of the dense one."

COMPARED_ACCURACIES = (
    "How many of the test examples each network gets right, epoch by epoch. A line that climbs early and stays high is "
    "a network that learns. A level line near the bottom is one that only guesses: the signal from its input does not "
    "reach its output, or the correction from its output does not reach its first layers."
)

COMPARED_MOMENTS = (
    "One batch is sent through each network as it stands when its training starts. The line shows how strong the "
    "signal still is after each layer, from the input (left) to the output (right): the mean square of the layer's "
    "outputs, on a logarithmic scale. Level is good. Falling means that the signal fades out on the way, rising that "
    "it blows up."
)

COMPARED_DENSITIES = (
    "The share of the weights that pruning kept in each layer, in the order of the model, on a logarithmic scale. "
    "Level is good: every layer gives up a like share. Where a line slopes, some layers pay for the others. A mark on "
    "the line of 0 % is a layer of which nothing is left, and through which no signal passes."
)
