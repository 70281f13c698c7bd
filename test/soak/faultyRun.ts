// A run that is kept going whatever is done to it: a coordinator and two workers, each command started again when it ends, and a proxy in
// the link between tower 1 and the coordinator and in the one between the towers.
// Invariant: once the run is over, or was given up, nothing is started any more.

import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultProxy } from '../processes/faultProxy.ts';
import type { Command, Flags, Stage } from '../processes/stage.ts';

/** A run that takes longer than this hangs: its faults come every few seconds and cost up to ten. */
const runDeadlineMs = 300_000;
/** No step for so long is a hang: longer than any deadline of the commands, so that an error of theirs comes first. */
const stillMs = 90_000;

export interface Links {
  readonly control: FaultProxy;
  readonly peer: FaultProxy;
}

export class FaultyRun {
  coordinator!: Command;
  readonly control: FaultProxy;
  readonly peer: FaultProxy;
  readonly coordinators: Command[] = [];
  readonly workers: Command[] = [];
  /** The coordinator has ended, or the run was given up. */
  isOver = false;
  /** The workers as well. */
  hasEnded = false;
  readonly #stage: Stage;
  readonly #flags: Flags;

  constructor(stage: Stage, flags: Flags, { control, peer }: Links) {
    this.#stage = stage;
    this.#flags = flags;
    this.control = control;
    this.peer = peer;
  }

  /** Starts everything, and again what ends early; gives the coordinator's exit code when the run is over. */
  async keep(bind: string, peerAddress: string): Promise<number | NodeJS.Signals> {
    const workers = [
      this.#keepWorker({ coordinator: bind, tower: 0, 'peer-address': peerAddress, 'join-timeout': 60 }),
      this.#keepWorker({ coordinator: this.control.address, tower: 1, 'peer-address': this.peer.address, 'join-timeout': 60 }),
    ];
    let end: number | NodeJS.Signals;
    do {
      this.coordinator = this.#stage.coordinator({ ...this.#flags, bind, resume: 'auto' });
      this.coordinators.push(this.coordinator);
      end = await this.coordinator.exit(2 * runDeadlineMs);
    } while (end === 'SIGKILL' && !this.isOver);
    this.isOver = true;
    await Promise.all(workers);
    this.hasEnded = true;
    return end;
  }

  /** All that the coordinators have said. */
  get said(): string {
    return this.coordinators.map(({ output }) => output).join('');
  }

  /** Of all coordinators together. */
  get returns(): number {
    return this.said.match(/going back to step/g)?.length ?? 0;
  }

  get restarts(): { coordinators: number; workers: number } {
    return { coordinators: this.coordinators.length - 1, workers: this.workers.length - 2 };
  }

  /** Settles, with what is wrong, when no step has been done for long or the run takes too long; with nothing when it is over. */
  async watch(): Promise<string | undefined> {
    const start = performance.now();
    let [steps, movedAt] = [0, start];
    while (!this.hasEnded) {
      await sleep(500);
      const [now, found] = [performance.now(), this.#stage.steps().length];
      if (found !== steps) [steps, movedAt] = [found, now];
      if (now - movedAt > stillMs) return `no step for ${stillMs / 1000} s after step ${steps}`;
      if (now - start > runDeadlineMs) return `step ${steps} after ${runDeadlineMs / 1000} s`;
    }
    return undefined;
  }

  /** What there is to see of every process and command, for a post-mortem. */
  lastState(): string {
    const processes = this.#stage.processes().map(({ pid, state, args }) => `  ${pid} ${state} ${args.slice(1).join(' ')}`);
    const commands = [...this.coordinators.slice(-1), ...this.workers.slice(-4)];
    return ['processes:', ...processes, ...commands.map(({ report }) => report.split('\n').slice(-60).join('\n'))].join('\n');
  }

  async signalWorker(tower: 0 | 1, signal: NodeJS.Signals): Promise<number> {
    const { pid } = await this.#stage.realWorker(tower);
    process.kill(pid, signal);
    return pid;
  }

  async stopWorker(tower: 0 | 1, ms: number): Promise<void> {
    const pid = await this.signalWorker(tower, 'SIGSTOP');
    await sleep(ms);
    try {
      process.kill(pid, 'SIGCONT');
    } catch {
      // It was given up and has ended.
    }
  }

  async #keepWorker(flags: Flags): Promise<void> {
    while (!this.isOver) {
      const worker = this.#stage.worker(flags);
      this.workers.push(worker);
      if ((await worker.exit(2 * runDeadlineMs)) === 0) return;
    }
  }
}
