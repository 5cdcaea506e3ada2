"""Wires jobs into the frame of a service."""

from __future__ import annotations

import time

from penstock.contracts.gates import PREFIX as GATE
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, SettleJob
from penstock.contracts.jobs_bulk import DiscardJobs, EnqueueJobs, RedriveJobs, SettleJobs
from penstock.contracts.queues import QueueState
from penstock.contracts.schedules import PREFIX as SCHEDULE
from penstock.contracts.schedules import ScheduleState
from penstock.contracts.workflow_state import WorkflowState
from penstock.infra.consuming.clearing import clearing
from penstock.infra.consuming.stranded import stranded
from penstock.infra.objects import Objects
from penstock.infra.repeated import Repeated
from penstock.infra.service import Frame, Service
from penstock.jobs import admission_reasons, estimates, workers_view
from penstock.jobs.admission import Admission
from penstock.jobs.admission_entrance import Entrance
from penstock.jobs.admission_sweep import AdmissionSweep
from penstock.jobs.bulk import BulkEnqueue
from penstock.jobs.cancelling import Cancelling
from penstock.jobs.dead_in_bulk import DeadInBulk
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.domain import FINAL, State, decide, evolve, finished
from penstock.jobs.due import DueJobs
from penstock.jobs.due_together import DueTogether
from penstock.jobs.effects import Effect, Effects, in_turn
from penstock.jobs.gates import Gates
from penstock.jobs.giving_back import GivingBack
from penstock.jobs.handlers import Handlers
from penstock.jobs.handlers_missing import Unhandled
from penstock.jobs.items import Settled
from penstock.jobs.latest import Latest
from penstock.jobs.offers import Offers
from penstock.jobs.overdue import OverdueJobs
from penstock.jobs.queue_effects import QueueEffects
from penstock.jobs.queue_states import QueueStates
from penstock.jobs.reconcile import Reconciler
from penstock.jobs.results import Results
from penstock.jobs.schedule_overdue import Overdue
from penstock.jobs.schedule_runner import ScheduleRunner
from penstock.jobs.settling import Settling
from penstock.jobs.tallying import Tallying
from penstock.jobs.together import Together
from penstock.jobs.unique import UniqueKeys
from penstock.jobs.unique_claims import UniqueClaims
from penstock.jobs.views import QUERIES, JobsView
from penstock.jobs.workers import Workers
from penstock.jobs.workflow_effects import WorkflowEffects
from penstock.jobs.workflow_recovery import StandingStill, WorkflowRecovery
from penstock.jobs.workflow_results import StepResults
from penstock.jobs.workflow_telling import Telling


def build(frame: Frame) -> Service[State]:
    """The jobs service, yet to be started."""
    states, unique = QueueStates(), UniqueKeys(frame.bus)
    workers = Workers(frame.bus)
    entrance = Entrance(states, Handlers(workers, time.monotonic), unique)
    effects: dict[type, Effect] = {}
    service: Service[State] = Service(
        frame,
        SERVICE,
        state=State,
        decide=decide,
        evolve=evolve,
        finished=finished,
        final=FINAL,
        view=JobsView(),
        queries=[
            *QUERIES,
            *workers_view.queries(workers),
            *estimates.queries(workers),
            *admission_reasons.queries(workers),
        ],
        effect=Effects(effects),
        look_up=entrance,
    )
    decider = service.decider
    offers = Offers(frame.bus, durability=frame.settings.durability)
    admission = Admission(
        frame.bus,
        Gates(frame.bus, service.log, decider.load),
        states,
        decider.load,
        lambda: service.model,
        offers,
    )
    claims = UniqueClaims(frame.bus, unique, decider.load)
    dispatch = Dispatch(frame.bus, admission, offers, claims)
    sweep = AdmissionSweep(frame.bus, admission, decider.load, lambda: service.model)
    service.parts += [admission, sweep.part()]
    schedules = ScheduleRunner(frame.bus, service.log, decider.load, decider.handle)
    effects[ScheduleState] = schedules.effect  # which in turn has commands carried out
    service.own[EnqueueJobs] = bulk = BulkEnqueue(frame.bus, decider, dispatch, offers, entrance)
    returned = StepResults(frame.bus)
    telling = Telling(frame.bus, returned)
    latest = Latest(frame.bus, lambda: service.model)
    together = Together(frame.bus, decider, latest)
    cancelling = Cancelling(together, dispatch, telling.effect)
    workflows = WorkflowEffects(frame.bus, returned, decider.load, bulk.enqueue, cancelling.cancel)
    effects[WorkflowState] = workflows.effect
    effects[JobState] = in_turn(dispatch.effect, telling.effect)
    settling = Settling(admission, effects[JobState])
    service.own |= {SettleJob: settling.one, SettleJobs: settling.many}
    recovery = WorkflowRecovery(workflows, telling, decider.load, decider.handle)
    settings = frame.settings
    results = Results(Objects(frame.bus), service.log, settings.result_age, settings.result_count)
    queues = QueueEffects(
        frame.bus,
        lambda: service.model,
        decider.load,
        cancelling,
        service.projector.reached,
        states,
    )
    effects[QueueState] = queues.effect
    service.parts.append(queues.part())
    tallying = Tallying(service.log)
    service.removals += [dispatch.remove, results.remove, tallying.erased]
    service.archived.append(tallying.archived)
    if settings.result_age or settings.result_count:
        every = settings.retention_interval
        service.parts.append(Repeated("retention of results", results.look, every=every))
    dead = DeadInBulk(together, dispatch)
    service.own |= {RedriveJobs: dead.redrive, DiscardJobs: dead.discard}
    of_kinds = {SCHEDULE: schedules.due, GATE: sweep.due}
    due_together = DueTogether(dispatch, latest, of_kinds)
    due = DueJobs(frame.bus, decider.load, dispatch, due_together, of_kinds)
    service.watchdog.watch(due.durable(), "due job")
    service.parts.append(due)
    reconciler = Reconciler(
        frame.bus, service.log, lambda: service.model, decider.load, dispatch, schedules, recovery
    )
    service.reconcile = reconciler.run
    stream = frame.bus.subjects.stream
    give_back = GivingBack(service.log, decider.load, dispatch)
    service.parts += [
        stranded(frame.bus, stream("work"), instead=give_back, unless_cleared=True),
        clearing(
            frame.bus,
            stream("work"),
            Settled(frame.bus, service.log, decider.load),
            instead=give_back,
        ),
        clearing(frame.bus, stream("sched"), due_together.settled),
        workers,
        Unhandled(
            lambda: service.model,
            workers,
            decider.handle,
            grace=frame.settings.unhandled_grace,
        ).part(),
        Overdue(lambda: service.model, schedules.reconcile).part(),
        OverdueJobs(frame.bus, lambda: service.model, reconciler.job).part(),
        StandingStill(lambda: service.model, recovery).part(),
    ]
    return service
