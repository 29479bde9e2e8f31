"""Write a SentencePiece model as `tokenizer.json`."""

from pathlib import Path

from hanpaca.files import whole
from hanpaca.tokenizer.conversion.tokenizer_json import Conversion, convert_sentencepiece


def convert_tokenizer(
    model: Path | str,
    output: Path | str,
    *,
    add_bos: bool | None = None,
    add_eos: bool | None = None,
    inexact: bool = False,
) -> Conversion:
    """Write a SentencePiece BPE model as `tokenizer.json` with the same ids for every text.

    Args:
        model: `tokenizer.model`, or a folder with one.
        output: Folder to write; must not exist.
        add_bos: BOS before each text; if None, as the `tokenizer_config.json` beside the model
            says, else yes.
        add_eos: EOS after each text; if None, as that file says, else no.
        inexact: Write it even if some texts get other ids.

    Raises:
        ArtifactError: The model cannot be used or not be converted exactly, or `output` exists.
        ResourceError: A package is missing, or it cannot be written there.
    """
    with whole(Path(output)) as partial:
        return convert_sentencepiece(
            Path(model), partial, add_bos=add_bos, add_eos=add_eos, inexact=inexact
        )
