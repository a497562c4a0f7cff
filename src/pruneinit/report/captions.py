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
    "The mean square of each layer's output on one batch, from the input (left) to the output (right). A level line "
    "means that the signal gets through, a falling one that it fades out, a rising one that it blows up. Where there "
    "is a line “theory, dense”, it is what mean-field theory expects of a very wide network with the same scales."
)

DIAGNOSED_GRADIENT = (
    "How strong the correction is that training sends back to each layer, as a square, relative to the last layer but "
    "one. Read it from right to left: from each layer to the one before it, the theory multiplies it by χ. Level: χ is "
    "1, the network is on the Edge of Chaos, and all layers learn. Lower on the left: χ is below 1 (the ordered "
    "phase), and the first layers hardly learn. Higher on the left: χ is above 1 (the chaotic phase), and training is "
    "unstable. In a residual network the line jumps between branches and what runs past them: look at its trend."
)

DIAGNOSED_CORRELATION = (
    "How alike two different examples look to each layer on average, from 0 (nothing in common) to 1 (the same). Where "
    "it reaches 1, the layers behind cannot tell examples apart any more."
)

DIAGNOSED_DENSITY = (
    "The share of each layer's weights that pruning kept. Weights kept but on no path from the input to the output do "
    "nothing. A mark on the line of 0 % is a layer that is lost. The plain law is what theory expects to be kept, "
    "knowing of each layer only the mean square of its scores. Layers far below the others are lost first when the "
    "network is pruned harder."
)

DIAGNOSED_LOST = (
    "Prune harder and harder by one threshold for all layers, and the layers are lost one after another. A point says "
    "how much of the whole network is still there when nothing is left of that layer. The highest point is the layer "
    "that goes first, at the critical sparsity. All this is counted from one scoring of the network as it is: where a "
    "criterion prunes in rounds, it scores anew in each, and layers may be lost earlier or later."
)

STAGES = {
    "dense": "before pruning",
    "pruned": "after pruning, nothing else changed",
    "rescaled": "pruned, and what is left multiplied, layer by layer or neuron by neuron, until the signals are as "
    "strong as before pruning",
    "by neuron": "neuron by neuron, looked at since with one factor a layer it is not expected to train",
}

FACTS = {
    "sparsity": "the share of the weights removed",
    "effective sparsity": "counting also the weights that are kept but on no path from the input to the output",
    "critical sparsity": "from where on one threshold for all layers leaves nothing of some layer",
    "conditioning": "the largest mean square score of a layer over the smallest; near 1 a threshold treats all layers "
    "alike, far above it starves some",
    "χ": "the factor by which the gradient's square grows from each layer to the one before it; 1 is the Edge of "
    "Chaos, below 1 gradients fade, above 1 they explode",
    "residual branches": "what a residual network adds to its shortcuts; a Stable ResNet divides each by the root of "
    "their number",
}

KEY = (
    "kept: weights left; alive: of these, on a path from input to output; law: density that theory expects; "
    "q: mean square of the layer's output. χ: growth of the gradient's square per layer on its way back, "
    "1 on the Edge of Chaos."
)
