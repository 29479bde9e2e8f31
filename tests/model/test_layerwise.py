from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hanpaca.model.layerwise import hidden_states, read_head
from hanpaca.model.load import load_model

BLOCKS = ([1, 5, 9, 300, 20], [1, 7], [1, 80, 81, 82, 83, 84, 85, 6])


@pytest.mark.parametrize("fixture", ["pico_base", "pico_untied"])
def test_logits_and_inputs_are_those_of_the_whole_model(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(fixture)
    model = load_model(folder, dtype=torch.float32)
    weights = {
        name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()
    }
    config = model.config.to_dict()
    asked: list[int] = []
    seen: dict[str, list[Tensor]] = {}

    def read(names: Sequence[str]) -> dict[str, Tensor]:
        asked.append(len(names))
        return {name: weights[name] for name in names}

    states = hidden_states(
        BLOCKS,
        config=config,
        read=read,
        watch=lambda name, x: seen.setdefault(name, []).append(x.clone()),
    )
    assert max(asked) == 9, "no more than a layer at a time"
    head = read_head(config, read)
    inputs: list[Tensor] = []
    down = model.model.layers[1].mlp.down_proj
    down.register_forward_pre_hook(lambda module, given: inputs.append(given[0][0]))
    for block, state in zip(BLOCKS, states, strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([block]), use_cache=False).logits[0]
        torch.testing.assert_close(state @ head.T, expected, rtol=1e-4, atol=1e-5)
    assert len(seen) == 14
    found = torch.cat(seen["model.layers.1.mlp.down_proj.weight"])
    torch.testing.assert_close(found, torch.cat(inputs), rtol=1e-4, atol=1e-5)
