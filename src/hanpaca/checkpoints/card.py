"""What people want to know of a model, under the keys that GGUF has for it.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#general-metadata
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelCard:
    """The part of a model card that a GGUF file keeps; None and empty for what is not known."""

    name: str | None = None
    description: str | None = None
    license: str | None = None
    languages: Sequence[str] = ()
    tags: Sequence[str] = ()
    base_models: Sequence[str] = field(default=())
    """Names or hub ids (`organization/name`)."""

    def metadata(self) -> Mapping[str, str | int | list[str]]:
        """The key-values.

        >>> dict(ModelCard(license="mit", base_models=["org/Base"]).metadata())
        {'general.license': 'mit', 'general.base_model.count': 1, \
'general.base_model.0.name': 'Base', 'general.base_model.0.organization': 'org', \
'general.base_model.0.repo_url': 'https://huggingface.co/org/Base'}
        """
        found: dict[str, str | int | list[str]] = {}
        for key in ("name", "description", "license"):
            if value := getattr(self, key):
                found[f"general.{key}"] = value
        for key in ("languages", "tags"):
            if values := list(getattr(self, key)):
                found[f"general.{key}"] = values
        if self.base_models:
            found["general.base_model.count"] = len(self.base_models)
        for number, base in enumerate(self.base_models):
            organization, _, name = base.rpartition("/")
            prefix = f"general.base_model.{number}"
            found[f"{prefix}.name"] = name
            if organization and "/" not in organization:
                found[f"{prefix}.organization"] = organization
                found[f"{prefix}.repo_url"] = f"https://huggingface.co/{base}"
        return found
