"""The architecture as tests: who may import whom, who may do HTTP, who may write consent, how big a file may get."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Layer → the project's layers it may import, besides itself. Nothing imports `local` or `benchmarks`.
LAYERS = {
    "include": set(),
    "plugins": {"include"},
    "dags": {"plugins", "include"},
    "local": {"include"},
    "benchmarks": {"include"},
}

# Package (or single module) of include/ → the others it may import. A new package gets a line here.
FLOORS = {
    # The ground: they know nothing of each other. `documents` knows no shop and no Mailchimp.
    "config": set(),
    "documents": set(),
    "mailchimp": set(),
    "state": set(),
    "embedded_postgres": set(),
    # What a profile must yield is written down in extract/contract.py, which both sides import.
    "shops": {"config", "extract"},
    "extract": {"config", "shops"},
    "transform": {"config", "documents", "extract", "shops"},
    "load": {"config", "documents", "extract", "mailchimp", "shops", "state", "transform"},
    "rehearse": {"config", "extract", "load", "mailchimp", "shops", "state", "transform"},
    "reconcile": {"config", "documents", "extract", "load", "mailchimp", "shops", "state", "transform"},
    "pull": {"config", "documents", "extract", "mailchimp", "shops", "state", "transform"},
    "explain": {"config", "extract", "load", "shops", "state", "transform"},
    # Commands and stand-ins: nothing but commands builds on them.
    "check_profile": {"config", "extract", "shops"},
    "sandbox": {"mailchimp"},
    "demo": {"shops"},
}

HTTP_LIBRARIES = {"requests", "urllib3", "httpx", "aiohttp"}
HTTP_MODULES = {"http.client", "urllib.request"}
MAY_DO_HTTP = (
    "include/mailchimp",
    "include/sandbox",
    "plugins/mailchimp_airflow/hooks",
    "plugins/mailchimp_airflow/triggers",
)

CONSENT_FIELDS = {"opt_in_status", "status_if_new"}
MAY_NAME_CONSENT = ("include/transform/consent.py", "include/mailchimp", "include/sandbox")

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}
LONGEST_FILE = 400


def sources(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def below(file: Path, places: tuple[str, ...]) -> bool:
    return any(relative(file) == place or relative(file).startswith(f"{place}/") for place in places)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def imports(file: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it (`from a import b` gives both `a` and `a.b`)."""
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer_of(module: str) -> str | None:
    first = module.split(".")[0]
    return "plugins" if first in {"mailchimp_airflow", "mailchimp_plugin"} else first if first in LAYERS else None


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_the_layers_below_it(layer: str) -> None:
    allowed = LAYERS[layer] | {layer}
    wrong = [
        f"{relative(file)} imports {module}"
        for file in sources(layer)
        for module in imports(file)
        if layer_of(module) not in {None, *allowed}
    ]
    assert not wrong


def test_the_pipeline_never_imports_airflow() -> None:
    wrong = [
        f"{relative(file)} imports {module}"
        for file in sources("include")
        for module in imports(file)
        if module.split(".")[0] == "airflow"
    ]
    assert not wrong


def floor_of(file: Path) -> str:
    return file.relative_to(ROOT / "include").with_suffix("").parts[0]


def test_a_package_of_the_pipeline_imports_only_from_floors_below() -> None:
    wrong = []
    for file in sources("include"):
        floor = floor_of(file)
        if floor == "__init__":
            continue
        assert floor in FLOORS, f"{relative(file)}: give include/{floor} its line in FLOORS of {__file__}"
        used = {module.split(".")[1] for module in imports(file) if module.startswith("include.")}
        wrong += [f"{relative(file)} imports include.{other}" for other in used - FLOORS[floor] - {floor}]
    assert not wrong


def test_no_modules_of_the_pipeline_import_each_other_in_a_circle() -> None:
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in sources("include")
    }
    graph = {
        name: {module for module in imports(file) if module in files and module != name} for name, file in files.items()
    }
    # `from package import module` mentions the package too; what counts is the module.
    packages = {name for name, file in files.items() if file.name == "__init__.py"}
    try:
        TopologicalSorter({name: used - packages for name, used in graph.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' → '.join(error.args[1])}")


def test_only_the_client_and_the_sandbox_do_http() -> None:
    wrong = [
        f"{relative(file)} imports {module}"
        for file in sources("include", "plugins", "dags")
        if not below(file, MAY_DO_HTTP)
        for module in imports(file)
        if module.split(".")[0] in HTTP_LIBRARIES or module in HTTP_MODULES
    ]
    assert not wrong


def docstrings(module: ast.Module) -> set[ast.AST]:
    return {
        node.value
        for node in ast.walk(module)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def comes_from_consent(value: ast.expr) -> bool:
    called = value.func if isinstance(value, ast.Call) else value
    return isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "consent"


def consent_violations(module: ast.Module) -> Iterator[str]:
    texts = docstrings(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in texts:
            if any(field in node.value for field in CONSENT_FIELDS):
                yield f"line {node.lineno}: the text {node.value!r}"
        elif isinstance(node, ast.keyword) and node.arg in CONSENT_FIELDS and not comes_from_consent(node.value):
            yield f"line {node.value.lineno}: {node.arg}= something that isn't from the module consent"


def test_only_consent_decides_about_consent() -> None:
    """Elsewhere the names may only take a value that a function of transform/consent.py has made."""
    wrong = [
        f"{relative(file)} {violation}"
        for file in sources("include", "plugins", "dags")
        if not below(file, MAY_NAME_CONSENT)
        for violation in consent_violations(tree(file))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ('frame["opt_in_status"] = True', True),
        ('payload = {"status_if_new": "subscribed"}', True),
        ("frame.assign(opt_in_status=True)", True),
        ("frame.assign(opt_in_status=consent.opt_in_status(frame))", False),
        ('"""About opt_in_status."""', False),
    ],
)
def test_the_consent_rule_itself(code: str, refused: bool) -> None:
    assert bool(list(consent_violations(ast.parse(code)))) is refused


def test_names_say_what_a_module_is() -> None:
    vague = [
        relative(file)
        for file in sources(*LAYERS)
        if VAGUE_NAMES & {*file.relative_to(ROOT).with_suffix("").parts, *file.stem.split("_")}
    ]
    assert not vague


def test_files_stay_readable() -> None:
    too_long = {
        relative(file): lines
        for file in sources(*LAYERS, "tests")
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    }
    assert not too_long
