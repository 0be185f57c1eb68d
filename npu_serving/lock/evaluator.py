"""A WORKSPACE file and everything it loads, evaluated by a real Starlark interpreter: which repositories it declares.

starlark-pyo3 knows the language; what Bazel adds to it is in prelude.star. It takes no tabs for indentation and has
no `print`, so both are supplied here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from npu_serving import fsutil
from npu_serving.errors import NpuServingError, WorkspaceError
from npu_serving.facts import pinned_bazel
from npu_serving.lock.limits import Budget, check_nesting
from npu_serving.lock.starlark_files import Tree, Written

PRELUDE = Path(__file__).with_name("prelude.star")
MAIN = ""  # the name of the repository that is evaluated

# What every file may use, by the name it has there and the name it has in the prelude.
_BZL_NAMES = {
    "attr": "attr", "aspect": "aspect", "depset": "depset", "fail": "say_failure", "native": "native",
    "print": "nothing", "provider": "provider", "range": "bounded_range",
    "rule": "rule", "select": "select", "str": "text_of",
    "type": "type_of",
}  # fmt: skip
_WORKSPACE_NAMES = {
    **_BZL_NAMES, "workspace": "nothing", "bind": "nothing", "register_toolchains": "nothing",
    "register_execution_platforms": "nothing", "http_archive": "http_archive", "new_http_archive": "http_archive",
    "http_file": "http_file", "http_jar": "http_jar", "git_repository": "git_repository",
    "new_git_repository": "new_git_repository", "local_repository": "local_repository",
    "new_local_repository": "new_local_repository", "maven_jar": "maven_jar", "maven_server": "maven_server",
    "android_sdk_repository": "android_sdk_repository", "android_ndk_repository": "android_ndk_repository",
}  # fmt: skip
# What @bazel_tools declares repositories with; its other names do nothing here.
_BAZEL_TOOLS_RULES = (
    "http_archive", "http_file", "http_jar", "git_repository", "new_git_repository", "java_import_external",
    "jvm_import_external", "jvm_maven_import_external", "maven_jar", "maybe",
)  # fmt: skip

# Those that are not Starlark in Bazel 0.24.1.
_NATIVE_RULES = ("local_repository", "new_local_repository", "android_sdk_repository", "android_ndk_repository")

_RULE = re.compile(r"^(?P<name>[A-Za-z_]\w*)(?P<assign>\s*=\s*)repository_rule\(", re.MULTILINE)
_UNKNOWN = re.compile(r"Variable `(\w+)` not found")
_LABEL = re.compile(r"(?:@(?P<repository>[\w.+-]+))?//(?P<package>[^:]*):(?P<file>[^:]+)")
_MOST_UNKNOWN_NAMES = 100
_DEEPEST_LOAD = 200
_MOST_DECLARED = 20_000  # the tree of 2.13.1 declares 670 repositories
_MOST_OF_A_RULE = 1_000  # downloads, or files written


@dataclass(frozen=True)
class Declaration:
    """A repository that a rule was instantiated for. `module` and `rule` say where a rule of the tree's own is."""

    name: str
    rule: str
    module: str
    attributes: Mapping[str, Any]
    part: int
    """How many load() statements of the WORKSPACE stand before it: Bazel reads the file in parts that they divide."""


@dataclass(frozen=True)
class Download:
    """What a rule's implementation asked to be downloaded."""

    urls: tuple[str, ...]
    sha256: str
    strip_prefix: str


@dataclass(frozen=True)
class Evaluation:
    """What a rule's implementation did: its downloads, the texts that it wrote by their paths, and the path that it
    made the repository a link to, such as external/org_tensorflow/third_party/xla.
    """

    downloads: tuple[Download, ...]
    files: Mapping[str, Written]
    link: str


class Evaluator:
    """Evaluates one tree. `tree_of` gives the files of an external repository as it is declared at that moment, or None
    where they are missing; `doing` hears which file or rule is evaluated.
    """

    def __init__(
        self,
        tree: Tree,
        tree_of: Callable[[Declaration], Tree | None],
        *,
        bazel_version: str,
        doing: Callable[[str], None] | None = None,
    ) -> None:
        self.declarations: list[Declaration] = []
        self._tree = tree
        self._tree_of = tree_of
        self._bazel_version = bazel_version
        self._doing = doing if doing is not None else lambda name: None
        self._trees: dict[str, Tree | None] = {}
        self._modules: dict[str, Any] = {}
        self._loading: list[str] = []
        self._downloads: list[Download] = []
        self._files_written: dict[str, Written] = {}
        self._link = ""
        self._budget = Budget()
        self._trouble: NpuServingError | None = None
        self._workspace = ""
        self._part = 0
        self._prelude: Any = None

    def run(self, text: str, file_name: str) -> None:
        """Evaluates the WORKSPACE file `text`; what it declares is in `declarations` then, in order."""
        self._workspace = "//:" + file_name
        self._modules[self._workspace] = self._evaluate(self._workspace, text, "", "", _WORKSPACE_NAMES)

    def outcome_of(self, declaration: Declaration) -> Evaluation:
        """What the implementation of the declaration's rule does, run with a context that only takes notes.

        One that fails, as those that look at the machine may, has done what it asked for until then.
        """
        import starlark

        self._downloads.clear()
        self._files_written.clear()
        self._link = ""
        described = f"the rule {declaration.rule} of {declaration.name}"
        module = self._modules.get(declaration.module)
        if module is None:
            raise WorkspaceError(
                f"{declaration.module} loads a file of {declaration.name}, whose rule {declaration.rule} it defines "
                "itself.",
                cause="a rule can be used for that only where the file that defines it was read to its end",
                cure=f"define {declaration.rule} in a .bzl file of its own, and load() it from there",
            )
        self._doing(described)
        with contextlib.suppress(starlark.StarlarkError, ValueError, TypeError):
            module.call_with(self._budget.options(), _runner(declaration.rule), dict(declaration.attributes))
        self._budget.check(described)
        if max(len(self._downloads), len(self._files_written)) > _MOST_OF_A_RULE:
            raise _too_many(described, f"asks for more than {_MOST_OF_A_RULE} downloads or files")
        return Evaluation(tuple(self._downloads), dict(self._files_written), self._link)

    def effective_declaration(self, name: str) -> Declaration | None:
        """The declaration of that name which counts so far.

        Bazel 0.24.1 looks a repository up in the parts of the WORKSPACE, in order, and takes it from the first part
        that declares it; within a part a later declaration replaces an earlier one (tried, see test_lock_bazel.py).
        """
        found: Declaration | None = None
        for item in self.declarations:
            if item.name == name and (found is None or item.part == found.part):
                found = item
        return found

    # ---- modules

    def _evaluate(self, key: str, text: str, repository: str, package: str, names: Mapping[str, str]) -> Any:
        """A module from its text. Names of Bazel's that the prelude doesn't know are given a stand-in, one by one."""
        stand_ins = ""
        self._doing(key)
        for _ in range(_MOST_UNKNOWN_NAMES):
            before = len(self.declarations)
            try:
                return self._evaluate_once(key, stand_ins, text, repository, package, names)
            except BaseException as error:
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of the interpreter
                    raise
                self._budget.check(key)
                if self._trouble is not None:  # it happened in a file that this one loads
                    raise self._trouble from error
                if isinstance(error, NpuServingError):
                    raise
                unknown = _UNKNOWN.search(str(error))
                if unknown is None or len(self.declarations) != before or f"{unknown[1]} = " in stand_ins:
                    raise _not_evaluated(key, error) from error
                stand_ins += _stand_in(unknown[1], text)
        raise WorkspaceError(
            f"{key} uses more names that Bazel {pinned_bazel()} doesn't know than any real file does.",
            cure="unpack the tree again",
        )

    def _evaluate_once(
        self, key: str, stand_ins: str, text: str, repository: str, package: str, names: Mapping[str, str]
    ) -> Any:
        import starlark

        check_nesting(text, key)
        module = starlark.Module()
        tree = starlark.parse(key, self._prepared(key, stand_ins, text, repository, package, names), _dialect())
        loader = starlark.FileLoader(lambda wanted: self._load(wanted, key, tree))
        starlark.eval_with(self._budget.options(), module, tree, _globals(), loader)
        return module.freeze()

    def _prepared(
        self, key: str, stand_ins: str, text: str, repository: str, package: str, names: Mapping[str, str]
    ) -> str:
        """The text with what Bazel supplies in a line of its own in front, which messages leave out of the count."""
        imports = ", ".join(f'{name} = "{known}"' for name, known in names.items())
        first = (
            f'load("@prelude", {imports}, npu_labels = "label_maker", npu_rules = "rule_maker", npu_no = "nothing"); '
            f'Label = npu_labels("{repository}", "{package}"); {stand_ins}'
        )
        rules: list[str] = []

        def with_its_name(found: re.Match[str]) -> str:
            rules.append(found["name"])
            return f'{found["name"]}{found["assign"]}npu_rules("{found["name"]}", "{key}")('

        body = _RULE.sub(with_its_name, _without_tabs(text)).replace(".to_list()", "")  # see depset in the prelude
        last = "".join(f"{_runner(name)} = {name}\n" for name in dict.fromkeys(rules))
        return first + "\n" + body.rstrip("\n") + "\n" + last

    def _load(self, wanted: str, key: str, tree: Any) -> Any:
        """The module that a file loads; the interpreter calls this when it comes to the load()."""
        try:
            if wanted == "@prelude":
                return self._prelude_module()
            if key == self._workspace:
                self._part += 1
            return self._module(_absolute(wanted, key), tree, wanted)
        except NpuServingError as error:
            self._trouble = error  # the interpreter would keep its text only
            raise

    def _module(self, label: str, tree: Any, wanted: str) -> Any:
        if label.startswith("@bazel_tools//"):
            return self._stub_module(label, _symbols(tree, wanted), known=_BAZEL_TOOLS_RULES)
        if label in self._modules:
            return self._modules[label]
        if len(self._loading) > _DEEPEST_LOAD:
            raise WorkspaceError(
                f"{label} is loaded at the end of a chain of more than {_DEEPEST_LOAD} files, each of which loads the "
                "next one.",
                cause="the files were made by a program, or the tree is malicious",
                cure=f"have files of that chain load what they need directly, so that it has {_DEEPEST_LOAD} at most",
            )
        if label in self._loading:
            raise WorkspaceError(
                f"{label} loads itself: {' -> '.join([*self._loading, label])}.",
                cause="the file was changed by hand, or belongs to another version",
                cure="remove one of these load() statements, or unpack the tree again",
            )
        parts = _LABEL.fullmatch(label)
        assert parts is not None
        repository, package = parts["repository"] or MAIN, parts["package"]
        path = f"{package}/{parts['file']}" if package else parts["file"]
        files = self.files_of(repository, label)
        if files is None:
            return self._stub_module(label, _symbols(tree, wanted))
        text = files.read(path)
        if text is None:
            raise WorkspaceError(
                f"{label} is loaded by {self._loading[-1] if self._loading else 'WORKSPACE'}, but does not exist.",
                cause="the tree is incomplete, or its archive is of another version",
                cure="unpack the tree again",
            )
        self._loading.append(label)
        try:
            self._modules[label] = self._evaluate(label, text, repository, package, _BZL_NAMES)
        finally:
            self._loading.pop()
        self._doing(self._loading[-1] if self._loading else self._workspace)  # which goes on
        return self._modules[label]

    def read_path(self, path: str) -> str | None:
        """The text of a file as an implementation names it: external/REPOSITORY/PATH, or a path in the tree."""
        first, _, rest = path.partition("/")
        repository, _, inner = rest.partition("/") if first == "external" else (MAIN, "", path)
        files = self.files_of(repository, path)
        return None if files is None else files.read(inner)

    def files_of(self, repository: str, label: str) -> Tree | None:
        """The files of a repository that is declared already, None where they are missing; `label` is the file that is
        looked for, for messages.
        """
        if repository == MAIN:
            return self._tree
        if repository not in self._trees:
            declaration = self.effective_declaration(repository)
            if declaration is None:
                raise WorkspaceError(
                    f"{label} is loaded before a repository {repository!r} is declared.",
                    cause="the WORKSPACE relies on something that this program doesn't evaluate, or is damaged",
                    cure=f"declare {repository} above that load() in the WORKSPACE",
                )
            self._trees[repository] = self._tree_of(declaration)
        return self._trees[repository]

    def _prelude_module(self) -> Any:
        import starlark

        if self._prelude is None:
            module = starlark.Module()
            module["_bazel_version"] = self._bazel_version
            module.add_callable("_declared", self._declared)
            module.add_callable("_downloaded", self._downloaded)
            module.add_callable("_written", self._written)
            module.add_callable("_templated", self._templated)
            module.add_callable("_linked", self._linked)
            module.add_callable("_existing", self._existing)
            module.add_callable("_all_names", lambda: [item.name for item in self.declarations])
            starlark.eval(module, starlark.parse("prelude", fsutil.read_text(PRELUDE), _dialect()), _globals())
            self._prelude = module.freeze()
        return self._prelude

    def _stub_module(self, label: str, symbols: list[str], *, known: Sequence[str] = ()) -> Any:
        """A file that is not read: its rules for repositories, where they are `known`, and stand-ins for the rest."""
        import starlark

        known = [symbol for symbol in symbols if symbol in known]
        imports = "".join(f', {symbol}_ = "{symbol}"' for symbol in known)
        lines = [f'load("@prelude", npu_no = "nothing"{imports})']
        lines += [f"{symbol} = {symbol + '_' if symbol in known else 'npu_no'}" for symbol in symbols]
        module = starlark.Module()
        loader = starlark.FileLoader(lambda wanted: self._prelude_module())
        starlark.eval(module, starlark.parse(label, "\n".join(lines), _dialect()), _globals(), loader)
        return module.freeze()

    # ---- called from Starlark

    def _declared(self, rule: str, module: str, attributes: Mapping[str, Any]) -> None:
        name = attributes.get("name")
        if not isinstance(name, str):
            return
        if len(self.declarations) >= _MOST_DECLARED:
            self._trouble = _too_many(self._workspace, f"declares more than {_MOST_DECLARED} repositories")
            raise self._trouble
        if rule in _NATIVE_RULES and not module and self._part and self.effective_declaration(name) is not None:
            self._trouble = WorkspaceError(
                f"{self._workspace}: {rule} declares {name!r} again, after a load().",
                cause=f"Bazel {pinned_bazel()} doesn't allow that for its own rules: Cannot redefine repository after "
                "any load statement",
                cure=f"remove one of the declarations of {name}",
            )
            raise self._trouble
        self.declarations.append(Declaration(name, rule, module, dict(attributes), self._part))

    def _existing(self, name: str) -> dict[str, Any] | None:
        """What native.existing_rule() returns: the attributes of a declared repository, and its rule as `kind`."""
        found = self.effective_declaration(name)
        return None if found is None else {**found.attributes, "kind": found.rule}

    def _downloaded(self, urls: list[Any], sha256: object, strip_prefix: object) -> None:
        texts = tuple(url for url in urls if isinstance(url, str))
        self._check_number(self._downloads)
        self._downloads.append(Download(texts, str(sha256 or ""), str(strip_prefix or "")))

    @staticmethod
    def _check_number(done: Sized) -> None:
        """Ends an implementation that never ends by itself; outcome_of() says so."""
        if len(done) > _MOST_OF_A_RULE:
            raise ValueError("too many")

    def _written(self, path: object, content: object) -> None:
        self._check_number(self._files_written)
        self._files_written[str(path).removeprefix("./")] = Written(str(content))

    def _templated(self, path: object, template: object, substitutions: Mapping[str, str]) -> None:
        self._check_number(self._files_written)
        self._files_written[str(path).removeprefix("./")] = Written("", str(template), dict(substitutions))

    def _linked(self, path: object) -> None:
        self._link = str(path)


def _symbols(tree: Any, wanted: str) -> list[str]:
    """The names that a file takes from the one that it calls `wanted`."""
    return [symbol for load in tree.loads() if load.module_id == wanted for symbol in load.symbols.values()]


def _too_many(where: str, what: str) -> WorkspaceError:
    return WorkspaceError(
        f"{where} {what}.",
        cause="a loop without end, or a malicious file",
        cure="correct that file, or unpack the tree again",
    )


def _dialect() -> Any:
    import starlark

    dialect = starlark.Dialect.extended()
    dialect.enable_top_level_stmt = True
    dialect.enable_load_reexport = True
    dialect.enable_f_strings = False
    return dialect


def _globals() -> Any:
    import starlark

    return starlark.Globals.extended_by([starlark.LibraryExtension.StructType, starlark.LibraryExtension.Json])


def _runner(rule: str) -> str:
    """The name under which a module hands out a rule; a name of its own that begins with _ couldn't be called."""
    return f"npu_run_{rule}"


def _stand_in(name: str, text: str) -> str:
    """An assignment for a name of Bazel's: something with the attributes that the text uses, or a function."""
    attributes = sorted(set(re.findall(rf"\b{name}\.(\w+)", text)))
    if attributes:
        return f"{name} = struct({', '.join(f'{item} = npu_no' for item in attributes)}); "
    return f"{name} = npu_no; "


def _without_tabs(text: str) -> str:
    """Leading tabs as eight blanks, as Bazel counts them; Windows line ends and a byte order mark are taken away."""
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n")
    return re.sub(r"^[ \t]*\t[ \t]*", lambda found: found[0].expandtabs(8), plain, flags=re.MULTILINE)


def _absolute(wanted: str, key: str) -> str:
    """The label of a loaded file, seen from the file `key`: `@repo//package:file`, or `//package:file` in the tree."""
    here = _LABEL.fullmatch(key)
    assert here is not None
    repository, package, rest = here["repository"] or "", here["package"], wanted
    if rest.startswith("@"):
        repository, separator, rest = rest[1:].partition("//")
        rest = "//" + rest if separator else f"//:{repository}.bzl"
    if rest.startswith("//"):
        package, separator, file = rest[2:].partition(":")
        if not separator:  # //a/b.bzl, as Bazel took it once
            package, _, file = rest[2:].rpartition("/")
    else:
        file = rest.removeprefix(":")
    label = (f"@{repository}" if repository else "") + f"//{package}:{file}"
    if not _LABEL.fullmatch(label):
        raise WorkspaceError(f"{key} loads {wanted!r}, which is not a label.", cure="correct that load() statement")
    return label


def _not_evaluated(key: str, error: BaseException) -> WorkspaceError:
    """The interpreter's error in one line: what, and the innermost place in a file of the tree.

    Its line numbers count the line that was put in front.
    """
    text = str(error)
    what = re.search(r"^error: (.*)", text, re.MULTILINE)
    places = [
        found for found in re.finditer(r"^ *(?:\*|-->) (\S+?):(\d+)[:,]", text, re.MULTILINE) if found[1] != "prelude"
    ]
    where = f"{places[-1][1]}, line {max(int(places[-1][2]) - 1, 1)}" if places else key
    if what is None and "out of memory" in text:
        return WorkspaceError(
            f"Gave up evaluating {where}: it asked for more memory than any real file does.",
            cause="a loop without end, an operation on something huge, or a malicious file",
            cure="correct that file, or unpack the tree again",
        )
    return WorkspaceError(
        f"Could not evaluate {where}: {(what[1] if what else text)[:500]}",
        cause="the file is damaged, or uses a feature of Bazel that this program doesn't know",
        cure="correct that line, or unpack the tree again; if Bazel accepts the file as it is, report the line "
        "as a bug",
    )
