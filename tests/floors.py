"""The rules of the house that an import linter cannot say: one function per rule, from a parsed file to a list of complaints.

tests/test_floors.py applies them to the tree, and proves of each that it can fail. The rules themselves are explained in
ARCHITECTURE.md; a complaint reads `path:line: what was found`.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS_OF_PACKAGE = ("model", "core", "venues", "io", "app")
PURE_ROOMS = ("src/truetape/model/", "src/truetape/core/", "src/truetape/venues/")
MODEL_STDLIB = {"__future__", "collections", "decimal", "enum", "typing"}
THE_CLOCK = "src/truetape/io/clock.py"

FILE_WARNS, FILE_FAILS = 300, 400
FUNCTION_WARNS, FUNCTION_FAILS = 60, 80

FORBIDDEN_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}
CLOCK_MODULES = {"time", "datetime"}
CLOCK_READERS = {
    "time": {
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "perf_counter_ns",
        "process_time",
        "clock_gettime",
    }
    | {"process_time_ns", "thread_time", "clock_gettime_ns", "gmtime", "localtime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "loop": {"time"},
    "_loop": {"time"},
    "get_running_loop()": {"time"},
}
SHAPELESS_NAMES = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}


@dataclass(frozen=True)
class Source:
    """One parsed file; `path` is relative to the repository, with forward slashes."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: str, text: str) -> "Source":
        return cls(path, text, ast.parse(text, filename=path))

    @property
    def pure(self) -> bool:
        return self.path.startswith(PURE_ROOMS)

    def at(self, node: ast.AST, found: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {found}"


Rule = Callable[[Source], list[str]]


def calls(source: Source) -> Iterator[tuple[ast.Call, str, str]]:
    """Every call as (node, last word of what it is called on, name): `self.loop.time()` gives ("loop", "time")."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node, "", node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield node, last_word(node.func.value), node.func.attr


def last_word(node: ast.AST) -> str:
    """`a.b.c` and `c` give `c`; `get_loop()` gives `get_loop()`."""
    return ast.unparse(node).rpartition(".")[2]


def imports(source: Source) -> Iterator[tuple[ast.stmt, str, str]]:
    """Every import as (node, module, name or "")."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node, node.module or "", alias.name


# In pure rooms


def no_async(source: Source) -> list[str]:
    """A machine never waits."""
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    return [source.at(n, f"{type(n).__name__} in a pure room") for n in ast.walk(source.tree) if isinstance(n, kinds)]


def no_side_doors(source: Source) -> list[str]:
    """Files, the terminal and code made at run time are not reached by a built-in either."""
    found = [(node, name) for node, on, name in calls(source) if not on and name in FORBIDDEN_CALLS]
    return [source.at(node, f"{name}() in a pure room") for node, name in found]


def no_third_party(source: Source) -> list[str]:
    """msgspec alone; and the model knows words, not algorithms."""
    model = source.path.startswith("src/truetape/model/")
    allowed = (MODEL_STDLIB if model else sys.stdlib_module_names) | {"msgspec", "truetape"}
    return [
        source.at(node, f"imports {module}, which this room may not")
        for node, module, _ in imports(source)
        if module.partition(".")[0] not in allowed
    ]


def no_clock_in_pure_rooms(source: Source) -> list[str]:
    """`now` is the last argument of every input; even the modules of time stay outside."""
    found = [(node, module) for node, module, _ in imports(source) if module in CLOCK_MODULES]
    return [source.at(node, f"imports {module} in a pure room") for node, module in found]


def no_global_random(source: Source) -> list[str]:
    """Chance comes from the `random.Random` a machine was given; making one needs a seed."""
    modules = {module for _, module, name in imports(source) if not name} & {"random"}
    found = [
        source.at(node, f"random.{node.attr} draws from global or system randomness")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules and node.attr != "Random"
    ]
    for node, module, name in imports(source):
        if module == "random" and name not in ("", "Random"):
            found.append(source.at(node, f"random.{name} draws from global or system randomness"))
    for node, on, name in calls(source):
        if name == "Random" and on in ("", "random") and not node.args:
            found.append(source.at(node, "Random() without a seed"))
    return found


def no_set_order(source: Source) -> list[str]:
    """The order of a set of strings differs from run to run: sort it, or keep a dict."""

    def is_set(node: ast.AST) -> bool:
        made = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
        return made or isinstance(node, ast.Set | ast.SetComp)

    loops = [node.iter for node in ast.walk(source.tree) if isinstance(node, ast.For | ast.comprehension)]
    walkers = ("list", "tuple", "enumerate", "iter", "zip", "map", "join")
    walked = [argument for node, _, name in calls(source) if name in walkers for argument in node.args]
    found = [node for node in loops + walked if is_set(node)]
    return [source.at(node, "iterates over a set, whose order differs from run to run") for node in found]


# Everywhere in the package


def one_clock(source: Source) -> list[str]:
    """io/clock.py is the only reader of time in the program; everybody else is told."""
    if source.path == THE_CLOCK:
        return []
    found = [
        source.at(n, f"reads the clock: {on}.{name}()")
        for n, on, name in calls(source)
        if name in CLOCK_READERS.get(on, ())
    ]
    for node, module, name in imports(source):
        if name in CLOCK_READERS.get(module, ()):
            found.append(source.at(node, f"takes {module}.{name} past io/clock.py"))
    return found


def module_docstring(source: Source) -> list[str]:
    """It says what the room is for and who lives next door."""
    return [] if ast.get_docstring(source.tree) else [source.at(source.tree, "no module docstring")]


def tasks_in_groups(source: Source) -> list[str]:
    """A task lives in a TaskGroup: whoever starts it also waits for it, and its error reaches somebody."""
    groups = group_names(source.tree)
    found = []
    for node, on, name in calls(source):
        if name == "ensure_future" or (name == "create_task" and on not in groups):
            found.append(source.at(node, f"{on + '.' if on else ''}{name}() outside a TaskGroup"))
    for node, module, name in imports(source):
        if module.startswith("asyncio") and name in ("create_task", "ensure_future"):
            found.append(source.at(node, f"imports asyncio.{name}"))
    return found


def group_names(tree: ast.Module) -> set[str]:
    """The names that hold a TaskGroup in this file: by `async with`, by annotation, by assignment, and by passing on."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and node.optional_vars is not None and makes_group(node.context_expr):
            names.add(last_word(node.optional_vars))
        elif isinstance(node, ast.arg) and node.annotation is not None and "TaskGroup" in ast.unparse(node.annotation):
            names.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and "TaskGroup" in ast.unparse(node.annotation):
            names.add(last_word(node.target))
    handed_on = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    for _ in range(2):  # `self.group = group`, and one name further
        for node in handed_on:
            if makes_group(node.value) or (
                isinstance(node.value, ast.Name | ast.Attribute) and last_word(node.value) in names
            ):
                names.update(last_word(target) for target in node.targets)
    return names


def makes_group(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and last_word(node.func) == "TaskGroup"


def below_the_front_door(source: Source) -> list[str]:
    """Rooms name the room they need; the package's front door (which knows the app) is for its users."""
    if not source.path.startswith(tuple(f"src/truetape/{room}/" for room in ROOMS_OF_PACKAGE[:-1])):
        return []
    return [
        source.at(node, f"imports {name or 'the package'} through the front door")
        for node, module, name in imports(source)
        if module == "truetape" and name not in ROOMS_OF_PACKAGE
    ]


# Sizes


def sizes(source: Source) -> Iterator[tuple[str, int, int, int]]:
    """(what, lines, warns beyond, fails at), for the file and for each function in it."""
    yield source.path, len(source.text.splitlines()), FILE_WARNS, FILE_FAILS
    for name, node in functions(source.tree, ""):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        yield f"{source.path}::{name}", lines, FUNCTION_WARNS, FUNCTION_FAILS


def functions(tree: ast.AST, within: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        inner = within
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{within}.{node.name}".lstrip(".")
            if not isinstance(node, ast.ClassDef):
                yield inner, node
        yield from functions(node, inner)


def too_long(source: Source) -> list[str]:
    return [f"{what}: {lines} lines, fails at {fails}" for what, lines, _, fails in sizes(source) if lines >= fails]


def rather_long(source: Source) -> list[str]:
    return [
        f"{what}: {lines} lines, aim at {warns}" for what, lines, warns, fails in sizes(source) if warns < lines < fails
    ]


# Names


def shapeless_name(path: str) -> bool:
    """A file is named for what it is."""
    return path.rpartition("/")[2] in SHAPELESS_NAMES


IN_PURE_ROOMS: list[Rule] = [
    no_async,
    no_side_doors,
    no_third_party,
    no_clock_in_pure_rooms,
    no_global_random,
    no_set_order,
]
IN_THE_PACKAGE: list[Rule] = [one_clock, module_docstring, tasks_in_groups, below_the_front_door, too_long]
