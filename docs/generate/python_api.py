"""Write docs/reference/python-api.md from the signatures and docstrings of public names.

Run it from the root of a checkout: `python docs/generate/python_api.py`. It reads source text and
imports nothing of the package.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
PAGE = ROOT / "docs" / "reference" / "python-api.md"
PACKAGES = ("caesura.engine", "caesura.session", "caesura.policy", "caesura.tools")

HEAD = """# Python API

What programs may import. Written by `python docs/generate/python_api.py` from signatures and
docstrings. [Pause and interrupt from Python](../tutorial/pause-and-interrupt.md) shows the first
two packages at work, [Write a policy](../how-to/write-a-policy.md) the third.
"""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Function = ast.FunctionDef | ast.AsyncFunctionDef


def tree_of(module: str) -> ast.Module:
    """Return the syntax tree of a module or package."""
    path = SOURCE.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text("utf-8"))


def public_names(tree: ast.Module) -> list[str]:
    """Return what `__all__` lists."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value), key=str.casefold)
    raise ValueError("a public package lists its names in __all__")


def definition(module: str, name: str) -> ast.stmt:
    """Return where a name is defined, through imports.

    Raises:
        ValueError: it is defined nowhere.
    """
    for node in ast.walk(tree_of(module)):
        match node:
            case ast.ImportFrom(module=str() as source) if source.startswith("caesura"):
                if any((alias.asname or alias.name) == name for alias in node.names):
                    return definition(source, name)
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == name:
                return node
            case ast.Assign() if ast.unparse(node.targets[0]) == name:
                return node
    raise ValueError(f"{module} does not define {name}")


def signature(function: Function) -> str:
    """Return a function's parameters and result, without `self`."""
    parameters = ast.unparse(function.args)
    parameters = re.sub(r"^(self|cls)(, )?", "", parameters)
    result = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    prefix = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
    return f"{prefix}def {function.name}({parameters}){result}: ..."


def text(node: Definition) -> str:
    """Return a docstring, its sections as lists."""
    lines = []
    for line in (ast.get_docstring(node) or "").split("\n"):
        if re.fullmatch(r"(Args|Attributes|Raises|Returns|Yields):", line):
            lines += [f"*{line[:-1]}*", ""]
        elif match := re.fullmatch(r"    ([\w, .]+): (.*)", line):
            lines.append(f"* `{match[1]}`: {match[2]}")
        elif line.startswith("        ") and lines and lines[-1].startswith("* "):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(re.sub(r"^    (?=\S)", "", line))
    return "\n".join(lines)


def entry(module: str, name: str) -> str:
    """Return the section of a public name."""
    node = definition(module, name)
    if isinstance(node, ast.Assign):
        return f"### {name}\n\n```python\n{name} = {ast.unparse(node.value)}\n```"
    assert isinstance(node, Definition)
    if not isinstance(node, ast.ClassDef):
        return f"### {name}\n\n```python\n{signature(node)}\n```\n\n{text(node)}"
    fields = [
        ast.unparse(item)
        for item in node.body
        if isinstance(item, ast.AnnAssign | ast.Assign)
        and not ast.unparse(item).startswith(("_", "model_config"))
    ]
    parts = [f"### {name}", text(node)]
    if fields:
        parts.append("```python\n" + "\n".join(fields) + "\n```")
    for item in node.body:
        if isinstance(item, Function) and not item.name.startswith("_"):
            parts.append(f"#### {item.name}\n\n```python\n{signature(item)}\n```\n\n{text(item)}")
    return "\n\n".join(part.strip() for part in parts if part.strip())


def page() -> str:
    """Return the page."""
    sections = [HEAD]
    for package in PACKAGES:
        tree = tree_of(package)
        sections.append(f"## `{package}`\n\n{ast.get_docstring(tree)}")
        sections += [entry(package, name) for name in public_names(tree)]
    return "\n\n".join(section.strip() for section in sections) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
