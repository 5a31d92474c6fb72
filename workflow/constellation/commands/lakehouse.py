"""Sub-commands about the catalogue in Iceberg tables: publish, and releases."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

from constellation.commands import Command, positive, say


def _opened(options: argparse.Namespace):
    """The configuration and its tables."""
    from constellation.config import load_whole
    from constellation.lakehouse.settings import require_pyiceberg

    config = load_whole(options.config)
    require_pyiceberg()
    from constellation.lakehouse.tables import Lakehouse

    return config, Lakehouse.of(config)


def _describe_publish(command: argparse.ArgumentParser) -> None:
    _add_config(command)
    command.add_argument("--branch", default="main", help="publish to this branch (default: main)")
    command.add_argument(
        "--whole",
        action="store_true",
        help="this catalogue is all of the survey: remove tiles that it does not hold",
    )


def _publish(options: argparse.Namespace) -> None:
    config, lakehouse = _opened(options)
    from constellation.lakehouse.publication import Publication, publish
    from constellation.lakehouse.tables import answered

    publication = Publication.of(config.output.results / "catalogue")
    with answered():
        changed = publish(lakehouse, publication, options.branch, options.whole)
    what = "published" if changed else "nothing to publish, the tables hold it"
    tiles = len(publication.digests)
    say(f"{lakehouse.namespace}: {what} (publication {publication.id}, {tiles} tiles)")


def _describe_release(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)

    def add(name: str, run, text: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        _add_config(action)
        action.set_defaults(act=run)
        return action

    add("list", _list, "list what was published: time, publication, snapshots, tags, branches")
    for name, run, text in (
        ("tag", _tag, "name a state of both tables for good, such as q1-v1"),
        ("branch", _branch, "start a branch of both tables, for `publish --branch`"),
    ):
        action = add(name, run, text)
        action.add_argument("name")
        action.add_argument(
            "--at", default="main", help="tag, branch or publication (default: main)"
        )
    add("remove", _remove, "remove a tag or branch").add_argument("name")
    action = add("rollback", _rollback, "let main be what a tag, branch or publication is")
    action.add_argument("at", help="tag, branch or publication")
    action = add(
        "repartition", _repartition, "cut new files of sources by HEALPix pixels; old files stay"
    )
    action.add_argument(
        "--order", type=int, choices=range(13), help="HEALPix order; without it, cut by tile"
    )
    action = add(
        "expire",
        _expire,
        "remove snapshots that no tag or branch points at, and the files that only they need",
    )
    action.add_argument(
        "--older-than", type=positive, required=True, metavar="DAYS", help="age of the snapshots"
    )


def _release(options: argparse.Namespace) -> None:
    _, lakehouse = _opened(options)
    from constellation.lakehouse.tables import answered

    with answered():
        options.act(options, lakehouse)


def _list(options: argparse.Namespace, lakehouse) -> None:
    from constellation.lakehouse.releases import history

    for entry in history(lakehouse):
        snapshots = "  ".join(f"{name} {number}" for name, number in entry.snapshots.items())
        publication = entry.publication or "(another program)"
        line = f"{entry.time:%Y-%m-%d %H:%M:%S}Z  {publication}  {snapshots}"
        say(f"{line}  {', '.join(entry.names)}".rstrip())


def _tag(options: argparse.Namespace, lakehouse) -> None:
    from constellation.lakehouse.releases import tag

    _tell(f"tag {options.name}", tag(lakehouse, options.name, options.at))


def _branch(options: argparse.Namespace, lakehouse) -> None:
    from constellation.lakehouse.releases import branch

    _tell(f"branch {options.name}", branch(lakehouse, options.name, options.at))


def _remove(options: argparse.Namespace, lakehouse) -> None:
    from constellation.lakehouse.releases import remove

    remove(lakehouse, options.name)
    say(f"{options.name}: removed")


def _rollback(options: argparse.Namespace, lakehouse) -> None:
    from constellation.lakehouse.releases import rollback

    _tell(f"main is {options.at}", rollback(lakehouse, options.at))


def _repartition(options: argparse.Namespace, lakehouse) -> None:
    from constellation.lakehouse.maintenance import repartition

    say(f"{lakehouse.namespace}.sources: cut by {repartition(lakehouse, options.order)}")


def _expire(options: argparse.Namespace, lakehouse) -> None:
    from constellation.lakehouse.maintenance import expire

    before = datetime.now(UTC) - timedelta(days=options.older_than)
    for name, gone in expire(lakehouse, before).items():
        say(f"{lakehouse.namespace}.{name}: {gone.snapshots} snapshots, {gone.files} files removed")


def _tell(what: str, snapshots) -> None:
    say(f"{what}: {', '.join(f'{name} {number}' for name, number in snapshots.items())}")


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        default="config/config.yaml",
        help="pipeline YAML, or JSON text of it (default: config/config.yaml)",
    )


COMMANDS = {
    "publish": Command(_describe_publish, _publish, "commit the catalogue to Iceberg tables"),
    "release": Command(
        _describe_release, _release, "name, list, restore and expire what was published"
    ),
}
