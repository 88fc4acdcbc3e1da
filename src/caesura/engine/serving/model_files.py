"""The files of a model: whether they can be had, and what its tokenizer knows, before vLLM starts.

A name is a folder, a file, a short name of a model in Caesura's cache, or a model on the Hugging
Face hub. Of the hub nothing is loaded but
small files, which vLLM would load too.
"""

import json
import os
import re
from collections.abc import Collection
from pathlib import Path

from caesura.errors import ConfigurationError
from caesura.model_cache import resolved_model

_CONFIGURATIONS = ("config.json", "params.json")  # of transformers, and of Mistral
_WEIGHTS = "*.gguf"
_REACH_SECONDS = 5.0
_ADDRESS = re.compile(r"[a-z0-9]+://")


def require_model(name: str, *, revision: str | None = None, cache: str | None = None) -> str:
    """See that there is such a model, and return what vLLM knows it by: a path for a short name.

    Args:
        name: what a user typed.
        revision: of a model on the hub.
        cache: folder for models of the hub, instead of the usual one.

    Raises:
        ConfigurationError: there is none, or it cannot be had; says what to do.
    """
    name = resolved_model(name)
    path = Path(name)
    if _is_elsewhere(name) or path.is_file():
        return name
    if path.is_dir():
        if any((path / file).is_file() for file in _CONFIGURATIONS) or any(path.glob(_WEIGHTS)):
            return name
        raise ConfigurationError(
            f"the folder {name} has no model: there is no {' and no '.join(_CONFIGURATIONS)} in it"
        )
    _file_of_hub(name, _CONFIGURATIONS[0], revision, cache)
    return name


def has_tokens(
    tokenizer: str,
    tokens: Collection[str],
    *,
    revision: str | None = None,
    cache: str | None = None,
) -> bool:
    """Whether a tokenizer was given all these tokens of its own; False if that cannot be seen.

    Args:
        tokenizer: a folder, or a model on the hub.
        tokens: as text.
        revision: see `require_model`.
        cache: see `require_model`.
    """
    file: Path | None = Path(tokenizer) / "tokenizer.json"
    if not Path(tokenizer).exists() and not _is_elsewhere(tokenizer):
        try:
            file = _file_of_hub(tokenizer, "tokenizer.json", revision, cache)
        except ConfigurationError:
            return False
    if file is None or not file.is_file():
        return False
    try:
        added = json.loads(file.read_text("utf-8"))["added_tokens"]
        return set(tokens) <= {token["content"] for token in added}
    except (KeyError, TypeError, ValueError):
        return False


def _is_elsewhere(name: str) -> bool:
    """Whether vLLM would fetch it from a place that is not looked at here."""
    return bool(_ADDRESS.match(name)) or os.environ.get("VLLM_USE_MODELSCOPE", "") in ("1", "true")


def _file_of_hub(name: str, file: str, revision: str | None, cache: str | None) -> Path | None:
    """A file of a model on the hub; None if the model has no such file.

    Raises:
        ConfigurationError: there is no such model, or it cannot be had; says what to do.
    """
    from huggingface_hub import (
        constants,
        hf_hub_download,
        hf_hub_url,
        is_offline_mode,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository = name.partition(":")[0]  # what follows a colon is a quantisation
    try:
        folder = cache or constants.HF_HUB_CACHE
        is_cached = try_to_load_from_cache(repository, file, cache_dir=folder, revision=revision)
        if (
            not is_cached
            and not is_offline_mode()
            and not _answers(hf_hub_url(repository, file, revision=revision))
        ):
            raise LocalEntryNotFoundError(f"{name} is not in {folder}")
        found = hf_hub_download(repository, file, revision=revision, cache_dir=folder)
        return Path(found)
    except RemoteEntryNotFoundError:
        return None
    except HFValidationError:
        raise ConfigurationError(f"there is no model {name}: no such folder") from None
    except GatedRepoError:
        raise ConfigurationError(
            f"the model {name} is gated: ask for access on its page on the Hugging Face hub, then "
            "log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise ConfigurationError(f"the model {name} has no revision {revision!r}") from None
    except RepositoryNotFoundError:
        raise ConfigurationError(
            f"there is no model {name}, neither as a folder nor on the Hugging Face hub: check the "
            "name, or log in with `hf auth login` if it is private"
        ) from None
    except LocalEntryNotFoundError:
        if is_offline_mode():
            raise ConfigurationError(
                f"there is no model {name}, neither as a folder nor in the cache of the Hugging "
                "Face hub, and HF_HUB_OFFLINE forbids to download it: give the path of a model, "
                "or unset HF_HUB_OFFLINE"
            ) from None
        raise ConfigurationError(
            f"there is no folder {name}, and the Hugging Face hub cannot be reached to download "
            "it: give the path of a model, or connect to the network"
        ) from None
    except HfHubHTTPError as error:
        raise ConfigurationError(
            f"the Hugging Face hub does not give {name}: {str(error).splitlines()[0]}"
        ) from None


def _answers(address: str) -> bool:
    """Whether there is a hub to ask; one attempt, where a download makes many."""
    from huggingface_hub import get_session

    try:
        get_session().head(address, timeout=_REACH_SECONDS)
    except Exception:  # of whichever HTTP library the hub's client uses
        return False
    return True
