"""`penstock workflows`: list workflows, show one with its steps, cancel it, restart it."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import get_args

from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from penstock.cli.tables import console, moment, table
from penstock.cli.verbs import print_json, running
from penstock.client.workflows import Workflows
from penstock.contracts.workflow_state import (
    COMPLETED,
    IGNORED,
    State,
    StepRun,
    WorkflowState,
    dependencies,
)
from penstock.contracts.workflows import Step
from penstock.infra.settings import Settings

LIMIT = 50
COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow", "processing": "cyan"}
Verb = Callable[[argparse.Namespace, Workflows], Awaitable[None]]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "workflows",
        help="list, show, cancel and restart workflows of jobs",
        description="Workflows: jobs that depend on each other, as one.",
    )
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listing = verbs.add_parser("list", help="the newest workflows")
    listing.add_argument("--state", choices=get_args(State), help="in this state")
    listing.add_argument("--limit", type=int, default=LIMIT, help=f"so many ({LIMIT})")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=_with(show_list))
    for name, verb, about in (
        ("show", show_one, "one workflow: its steps, how they stand, their jobs"),
        ("cancel", cancel, "cancel a workflow and all of its jobs"),
        ("restart", restart, "run again what failed, was cancelled or never ran"),
    ):
        one = verbs.add_parser(name, help=about, description=about)
        one.add_argument("id", metavar="ID")
        if name != "show":
            one.add_argument("--reason", help="for the history")
        one.add_argument("--json", action="store_true", help="as one JSON object")
        one.set_defaults(run=_with(verb))


def _with(verb: Verb) -> Callable[[argparse.Namespace, Settings], int]:
    return running(lambda options, session: verb(options, Workflows(session)))


async def show_list(options: argparse.Namespace, workflows: Workflows) -> None:
    """Print the newest workflows, each as a row or as a line of JSON."""
    found = await workflows.list(state=options.state, limit=options.limit)
    if options.json:
        print_json(found)
        return
    made = table(
        ("workflow", "state", "steps", "started"), (map(escape, _row(one)) for one in found)
    )
    console().print(made if found else "There is no such workflow.")


def _row(one: WorkflowState) -> tuple[str, ...]:
    done = sum(run.state == "completed" for run in one.runs.values())
    return one.id, one.state, f"{done}/{len(one.steps)}", moment(one.created)


async def show_one(options: argparse.Namespace, workflows: Workflows) -> None:
    """Print one workflow."""
    _tell(await workflows.get(options.id), options.json)


async def cancel(options: argparse.Namespace, workflows: Workflows) -> None:
    """Cancel one workflow, and print it."""
    _tell(await workflows.cancel(options.id, options.reason), options.json)


async def restart(options: argparse.Namespace, workflows: Workflows) -> None:
    """Restart one workflow, and print it."""
    _tell(await workflows.restart(options.id, options.reason), options.json)


def _tell(workflow: WorkflowState, as_json: bool) -> None:
    if as_json:
        print_json([workflow])
    else:
        console().print(tree(workflow))


def tree(workflow: WorkflowState) -> Tree:
    """The steps, each with its state, its jobs and what it waits for."""
    why = f"  {workflow.reason}" if workflow.reason else ""
    root = Tree(
        Text(f"{workflow.id}  ").append(workflow.state, _colour(workflow.state)).append(why)
    )
    for step in workflow.steps:
        root.add(_line(workflow, step, workflow.runs[step.key]))
    return root


def _line(workflow: WorkflowState, step: Step, run: StepRun) -> Text:
    line = Text(f"{step.key}  ").append(run.state, _colour(run.state))
    if step.each is not None and run.jobs is not None:
        done = sum(letter in (COMPLETED, IGNORED) for letter in run.jobs)
        line.append(f"  {done}/{len(run.jobs)} jobs")
    elif run.jobs:
        line.append(f"  {workflow.job_ids(step.key)[0]}", "dim")
    if needed := sorted(dependencies(step)):
        line.append(f"  after {', '.join(needed)}", "dim")
    return line.append(f"  {run.error}", "red") if run.error else line


def _colour(state: str) -> str:
    return COLOURS.get(state, "dim")
