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

DIAGNOSED_SIGNAL = (
    "One batch is sent through the network as it is at each stage. The line without markers is what mean-field "
    "theory expects of a wide network with the same scales. A level line means that the signal gets through."
)

DIAGNOSED_GRADIENT = (
    "How strong the correction is that comes back to each layer, relative to the last but one. The theory "
    "multiplies its square by χ from one layer to the one before it. A level line: χ is 1, the network is on the "
    "Edge of Chaos, and all layers learn. A line that falls towards the first layers (left): ordered phase, they "
    "hardly learn. A line that rises towards them: chaotic phase."
)

DIAGNOSED_CORRELATION = (
    "How alike two different examples look to each layer, from 0 (nothing in common) to 1 (the same). Where it "
    "reaches 1, the layers behind cannot tell examples apart any more."
)

DIAGNOSED_DENSITY = (
    "What pruning left of each layer, and what the theory's plain law gives it from its score moment alone. Layers "
    "far below the others are lost first when the network is pruned harder."
)

DIAGNOSED_LOST = (
    "The share of all weights that is still there when nothing of the layer is left any more, found from one "
    "scoring. The highest point is the layer that goes first."
)
