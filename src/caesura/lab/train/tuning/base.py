"""The base model of a fine-tuning run: loaded, and made ready for CML."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from caesura.cml import Marker
from caesura.errors import ConfigurationError
from caesura.lab.train.tuning.hugging_face_codec import HuggingFaceCodec
from caesura.lab.train.tuning.markers import add_markers, begin_markers
from caesura.lab.train.tuning.template import end_of_answer, extended, takes_system_message


@dataclass(frozen=True, slots=True)
class Base:
    """A model that is ready to be trained.

    Attributes:
        model: with a row for each marker.
        tokenizer: with the markers and the extended chat template.
        codec: of both.
        marker_ids: the tokens of the markers.
        dtype: in which the model was saved, and is to be saved again.
    """

    model: Any
    tokenizer: Any
    codec: HuggingFaceCodec
    marker_ids: tuple[int, ...]
    dtype: torch.dtype


def load_base(name: str, chat_template: Path | None = None, *, whole: bool = False) -> Base:
    """Load a causal language model and make it ready.

    Args:
        name: a path, or a name on the hub.
        chat_template: a Jinja file, instead of the model's own.
        whole: all weights will be trained, and therefore are loaded in float32.

    Raises:
        ConfigurationError: the model cannot be trained for CML; the message says what to do.
    """
    tokenizer = load_tokenizer(name)
    if chat_template is not None:
        tokenizer.chat_template = _read(chat_template)
    if not tokenizer.chat_template:
        raise ConfigurationError(
            f"{name} has no chat template: take the instruction-tuned version of the model, or "
            "give a template with --chat-template FILE"
        )
    if not isinstance(tokenizer.chat_template, str):
        raise ConfigurationError(
            f"{name} has several chat templates: write the one to train with to a file, and give "
            "it with --chat-template FILE"
        )
    spelled = add_markers(tokenizer)
    tokenizer.chat_template = extended(tokenizer.chat_template, takes_system_message(tokenizer))
    end = _end_of_turn(tokenizer)
    tokenizer.eos_token = end
    if tokenizer.pad_token is None:
        tokenizer.pad_token = end
    saved = AutoConfig.from_pretrained(name).dtype or torch.float32
    in_float32 = whole or not torch.cuda.is_available()
    model = _load_model(name, torch.float32 if in_float32 else saved)
    begin_markers(model, tokenizer, spelled)
    _set_ends(model, tokenizer)
    codec = HuggingFaceCodec(tokenizer, end)
    return Base(model, tokenizer, codec, marker_ids(tokenizer), saved)


def load_tuned(folder: str | Path) -> tuple[Any, HuggingFaceCodec]:
    """Load what a run exported: the model and its codec.

    Raises:
        ConfigurationError: it is no such model.
    """
    tokenizer = load_tokenizer(str(folder))
    try:
        codec = HuggingFaceCodec(tokenizer, tokenizer.eos_token)
    except ValueError as error:
        raise ConfigurationError(f"{folder} was not trained for CML: {error}") from None
    dtype = "auto" if torch.cuda.is_available() else torch.float32
    return _load_model(str(folder), dtype).eval(), codec


def load_tokenizer(name: str) -> Any:
    """Load a fast tokenizer.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{name}: the tokenizer cannot be loaded: {error}") from None
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"{name} has no fast tokenizer (tokenizer.json): convert it with transformers, or take "
            "another base model"
        )
    return tokenizer


def marker_ids(tokenizer: Any) -> tuple[int, ...]:
    """The tokens of the markers."""
    return tuple(tokenizer.convert_tokens_to_ids(marker.value) for marker in Marker)


def _load_model(name: str, dtype: torch.dtype | str) -> Any:
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name}: the model cannot be loaded: {error}") from None
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _end_of_turn(tokenizer: Any) -> str:
    """The token that ends the model's turn: the first that the template puts behind an answer."""
    between = tokenizer.encode(end_of_answer(tokenizer), add_special_tokens=False)
    if not between or between[0] not in tokenizer.all_special_ids + _added(tokenizer):
        raise ConfigurationError(
            "the chat template does not end an answer with a special token: put the one that ends "
            "a turn behind each answer, and give the template with --chat-template FILE"
        )
    token: str = tokenizer.convert_ids_to_tokens(between[0])
    return token


def _added(tokenizer: Any) -> list[int]:
    return [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]


def _set_ends(model: Any, tokenizer: Any) -> None:
    """Tell the model's settings which tokens end a turn and fill batches."""
    known = model.generation_config.eos_token_id
    known = known if isinstance(known, list) else [known]
    ends = dict.fromkeys([tokenizer.eos_token_id, *(end for end in known if end is not None)])
    model.generation_config.eos_token_id = list(ends)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror or error}") from None
