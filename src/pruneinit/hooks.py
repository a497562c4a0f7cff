"""Weights that a hook computes before each forward pass, as PyTorch did it before `torch.nn.utils.parametrize`."""

from __future__ import annotations

from torch import nn


def removal(module: nn.Module, path: str, leaf: str) -> str | None:
    """The call that removes the hook behind `leaf`, which is then a parameter again; None where there is no hook.

    Args:
        module: A layer.
        path: Its name in the model, empty for the model itself.
        leaf: The name of its weight.

    Example:
        >>> layer = nn.utils.spectral_norm(nn.Linear(2, 2))
        >>> removal(layer, "fc", "weight")
        "torch.nn.utils.remove_spectral_norm(model.get_submodule('fc'), 'weight')"
        >>> removal(nn.Linear(2, 2), "fc", "weight")
    """
    parameters = module._parameters
    if f"{leaf}_g" in parameters:
        call = "torch.nn.utils.remove_weight_norm"
    elif f"{leaf}_orig" in parameters:
        masked = f"{leaf}_mask" in module._buffers
        call = "torch.nn.utils.prune.remove" if masked else "torch.nn.utils.remove_spectral_norm"
    else:
        return None
    owner = f"model.get_submodule({path!r})" if path else "model"
    return f"{call}({owner}, {leaf!r})"
