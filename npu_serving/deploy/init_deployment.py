"""init-deployment: a first deployment.yaml, made by looking at the models."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.deploy.deployment_file import SCHEMA, DeploymentFile
from npu_serving.deploy.older_precision import is_older, older_default
from npu_serving.deploy.set_up_by_hand import SetUpByHand
from npu_serving.deploy.taking_over import take_over
from npu_serving.documents import DocumentRefusal, parse_document
from npu_serving.errors import RequestError
from npu_serving.models.layout import (
    ModelPlace,
    RemotePlace,
    check_model_directory,
    check_model_name,
    model_place,
    version_directories,
)
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.shown_text import masked_variable, printable
from npu_serving.templating import render
from npu_serving.writers.shell import command_line
from npu_serving.writers.yaml import yaml_block

TEMPLATE = "templates/deployment/deployment.yaml.j2"
FILE = "deployment.yaml"


@dataclass(frozen=True)
class FoundModel:
    """A model for the file: its name and place, and the versions that are there (none where it can't be looked at)."""

    name: str
    base_path: str
    versions: tuple[int, ...] = ()


@dataclass(frozen=True)
class FirstDeployment:
    """The file; `changed` is False where it was there already as it is, or nothing was written."""

    path: Path
    content: str
    models: tuple[FoundModel, ...]
    changed: bool = False
    dry_run: bool = False
    left_out: tuple[str, ...] = ()
    """What of a set-up by hand the file does not say, or says otherwise."""
    shown: str = ""
    """The text without the passwords of its environment, where it has some: then only its owner may read the file."""
    pem_files: Mapping[Path, str] = field(default_factory=dict, repr=False)
    """The texts of key and certificates that the file names, which are written for its owner alone and never shown."""

    def to_json(self) -> dict[str, object]:
        """The path, the text, the models, and whether it was written."""
        return {
            "path": str(self.path),
            "content": self.shown or self.content,
            "models": [
                {"name": model.name, "base_path": model.base_path, "versions": list(model.versions)}
                for model in self.models
            ],
            "changed": self.changed,
            "left_out": list(self.left_out),
            "pem_files": [str(path) for path in self.pem_files],
        }

    def text(self) -> str:
        """The text itself in a dry run; else what was done, and what comes next."""
        if self.dry_run:
            return (self.shown or self.content).rstrip()
        done = f"Wrote {self.path}." if self.changed else f"{self.path} is up to date."
        path = command_line([self.path])
        left_out = ["Not taken over, or changed:", *(f"  {sentence}" for sentence in self.left_out)]
        beside = [f"Wrote {path}, for its owner alone." for path in self.pem_files if self.changed]
        return "\n".join([*(left_out if self.left_out else []), *beside, done, f"Next: ./inv check-deployment {path}"])


def init_deployment(
    models: Sequence[str],
    output: Path | None = None,
    *,
    npu: bool = True,
    settings: Settings | None = None,
    dry_run: bool = False,
) -> FirstDeployment:
    """Writes the file with those models, each NAME=PATH; `output` is deployment.yaml in this directory by default.

    The precision stands in the option that the adapter of these settings reads.

    RequestError for a model that a server could not load, and where the file is there with different content: somebody
    wrote it.
    """
    if not models:
        raise RequestError(
            "No model was named.", cure="name each with --model NAME=PATH, such as resnet=/models/resnet"
        )
    found = tuple(_found(text) for text in models)
    for index, model in enumerate(found):
        if any(model.name == other.name for other in found[:index]):
            raise RequestError(f"The model {model.name!r} is named twice.", cure="give each model its own name")
    older = older_default() if npu and settings is not None and is_older(settings) else None
    content = render(TEMPLATE, schema=str(PROJECT_ROOT / SCHEMA), models=found, npu=npu, older=older)
    return _written(FirstDeployment(_target(output), content, found, dry_run=dry_run))


def take_over_deployment(found: SetUpByHand, output: Path | None = None, *, dry_run: bool = False) -> FirstDeployment:
    """Writes the file for a server that was set up by hand, and the key and certificates of its TLS beside it.

    RequestError where no model is found there, DocumentError for a set-up with mistakes, and where a
    file is there with different content.
    """
    source = found.where or str(found.directory)
    target = _target(output)
    taken = take_over(found, target)
    comments = [f"yaml-language-server: $schema={PROJECT_ROOT / SCHEMA}", f"Taken over from {_one_line(source)}."]
    if taken.left_out:
        comments += ["Not taken over, or changed:", *(f"  {_one_line(sentence)}" for sentence in taken.left_out)]
    head = "".join(f"# {comment}\n" for comment in comments)
    content = head + yaml_block(taken.document)
    variables = {name: str(value) for name, value in taken.document.get("environment", {}).items()}
    masked = {name: masked_variable(name, value) for name, value in variables.items()}
    shown = head + yaml_block({**taken.document, "environment": masked}) if masked != variables else ""
    refusal = DocumentRefusal(
        heading=f"The set-up in {source} has mistakes; they are those of the file that would be written:",
        cause="the server took no notice of them, or would not have started",
        cure=f"correct them in {source}, then run the same command again",
    )
    read = parse_document(content, DeploymentFile, where=FILE, refusal=refusal)
    models = tuple(FoundModel(model.name, model.base_path) for model in read.models)
    made = FirstDeployment(target, content, models, left_out=taken.left_out, shown=shown, pem_files=taken.pem_files)
    return _written(dataclasses.replace(made, dry_run=dry_run))


def _one_line(text: str) -> str:
    """What a comment of a UTF-8 file can hold of a text."""
    return printable(" ".join(text.split())).encode("utf-8", "backslashreplace").decode()


def _target(output: Path | None) -> Path:
    path = (output or Path(FILE)).expanduser().absolute()
    return path / FILE if path.is_dir() else path


def _written(plan: FirstDeployment) -> FirstDeployment:
    """The plan carried out, unless it is a dry run; the files that the deployment names are written before it."""
    content = {**plan.pem_files, plan.path: plan.content}
    for path, text in content.items():
        if path.exists() and fsutil.read_text(path) != text:
            raise RequestError(
                f"{path} is already there with different content, so it was not overwritten.",
                cause="it was written or changed by hand, or for other models",
                cure="write the new one elsewhere with --output FILE, or move the old one away",
            )
    if plan.dry_run:
        return plan
    changed = False
    for path, text in content.items():
        is_secret = path in plan.pem_files or bool(plan.shown)
        changed |= fsutil.write_file(path, text, mode=0o600 if is_secret else None)
    return dataclasses.replace(plan, changed=changed)


def _found(text: str) -> FoundModel:
    name, equals, place = text.partition("=")
    if not equals or not place:
        raise RequestError(
            f"--model {text!r} is not NAME=PATH.", cure="write it like --model resnet=/models/resnet, with the ="
        )
    check_model_name(name)
    if re.search("[\x00-\x1f\x7f\ud800-\udfff]", place):
        raise RequestError(
            f"The path of the model {name!r} contains control characters: {place!r}.", cure="use another path"
        )
    base: ModelPlace = model_place(place, "--model")
    if isinstance(base, RemotePlace):
        return FoundModel(name, str(base))
    with fsutil.explained(base, doing="read"):
        check_model_directory(base, "saved_model.pb")
        return FoundModel(name, str(base), tuple(sorted(version_directories(base))))
