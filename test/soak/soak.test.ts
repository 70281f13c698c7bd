// Faults at random, from a seed, for as long as one likes (`npm run soak`): runs of a small network, three commands and two proxies, each
// command started again by a keeper when it ends. The oracle: every run ends as the first one, which was left alone, to the bit; none hangs.

import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { randomKey, randomUniform } from '../../src/spec/random.ts';
import { FaultProxy } from '../processes/faultProxy.ts';
import { Stage, freeAddress } from '../processes/stage.ts';
import type { Command, Flags } from '../processes/stage.ts';

const minutes = Number(process.env['CROSSTOWER_SOAK_MINUTES'] ?? 1);
const seed = Number(process.env['CROSSTOWER_SOAK_SEED'] ?? 1);

/** About ten seconds without faults, a minute or two with them, and a few commits between two of them. */
const flags: Flags = {
  steps: 300,
  'checkpoint-every': 60,
  'commit-every': 20,
  'max-restarts': 50,
  'step-timeout': 3,
  'join-timeout': 60,
};
/** A run that takes longer than this hangs: its faults come every few seconds and cost up to ten. */
const runDeadlineMs = 240_000;

type Fault = (run: FaultyRun) => unknown;

/** Each leaves the run as it should be able to go on. */
const faults: Readonly<Record<string, Fault>> = {
  'worker killed': (run) => run.signalWorker('SIGKILL'),
  'worker stopped for a second': async (run) => {
    await run.stopWorker(1000);
  },
  'worker stopped for longer than its deadline': async (run) => {
    await run.stopWorker(6000);
  },
  'coordinator killed': (run) => {
    run.coordinator.signal('SIGKILL');
  },
  'control link reset': (run) => {
    run.control.reset();
  },
  'peer link reset': (run) => {
    run.peer.reset();
  },
  'peer link cut within a tensor': (run) => {
    run.peer.afterBytes(50_000, 'cut');
  },
  'bit flipped between the towers': (run) => {
    run.peer.afterBytes(50_000, 'flip');
  },
  'peer link away for a second': async (run) => {
    await heldUp(run.peer, 1000);
  },
  'peer link away for longer than its deadline': async (run) => {
    await heldUp(run.peer, 5000);
  },
  'control link away for a second': async (run) => {
    await heldUp(run.control, 1000);
  },
  'both links slow for two seconds': async ({ control, peer }) => {
    [control.latencyMs, peer.latencyMs] = [30, 30];
    await sleep(2000);
    [control.latencyMs, peer.latencyMs] = [0, 0];
  },
};

async function heldUp(proxy: FaultProxy, ms: number): Promise<void> {
  proxy.blackhole();
  await sleep(ms);
  proxy.heal();
}

/** Three commands and who keeps them running. */
class FaultyRun {
  coordinator!: Command;
  readonly control: FaultProxy;
  readonly peer: FaultProxy;
  /** Of all coordinators of the run. */
  readonly coordinators: Command[] = [];
  restartedWorkers = 0;
  isOver = false;
  readonly #stage: Stage;
  readonly #random: () => number;

  constructor(stage: Stage, random: () => number, { control, peer }: { control: FaultProxy; peer: FaultProxy }) {
    this.#stage = stage;
    this.#random = random;
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
      this.coordinator = this.#stage.coordinator({ ...flags, bind, resume: 'auto' });
      this.coordinators.push(this.coordinator);
      end = await this.coordinator.exit(runDeadlineMs);
    } while (end === 'SIGKILL');
    this.isOver = true;
    await Promise.all(workers);
    return end;
  }

  async signalWorker(signal: NodeJS.Signals): Promise<number> {
    const { pid } = await this.#stage.realWorker(this.#random() < 0.5 ? 0 : 1);
    process.kill(pid, signal);
    return pid;
  }

  async stopWorker(ms: number): Promise<void> {
    const pid = await this.signalWorker('SIGSTOP');
    await sleep(ms);
    try {
      process.kill(pid, 'SIGCONT');
    } catch {
      // It was given up and has ended.
    }
  }

  async #keepWorker(workerFlags: Flags): Promise<void> {
    for (;;) {
      const end = await this.#stage.worker(workerFlags).exit(runDeadlineMs);
      if (end === 0 || this.isOver) return;
      this.restartedWorkers++;
    }
  }
}

test(`soak of ${minutes} minutes, seed ${seed}`, { timeout: 60_000 * minutes + 2 * runDeadlineMs }, async () => {
  const key = randomKey(seed, 'order', 'soak');
  let drawn = 0;
  const random = (): number => randomUniform(key, drawn++);
  const deadline = performance.now() + 60_000 * minutes;
  const injected = new Map<string, number>();
  const total = { runs: 0, faults: 0, returns: 0, coordinators: 0, workers: 0, stepsLost: 0 };
  let model = '';
  let whole: unknown[] = [];

  for (let runNumber = 0; runNumber === 0 || performance.now() < deadline; runNumber++) {
    const stage = new Stage();
    const [bind, peerAddress] = await Promise.all([freeAddress(), freeAddress()]);
    const [control, peer] = await Promise.all([FaultProxy.listen(bind), FaultProxy.listen(peerAddress)]);
    const run = new FaultyRun(stage, random, { control, peer });
    try {
      const ended = run.keep(bind, peerAddress);
      ended.catch(() => undefined);
      // The first run is left alone.
      while (runNumber > 0 && !run.isOver) {
        await Promise.race([ended, sleep(3000 + 5000 * random())]);
        // A fault now would hit a run that is over, or one that has just been started again and has no worker yet.
        if (stage.processes().filter(({ isRealWorker }) => isRealWorker).length < 2) continue;
        const [name, strike] = Object.entries(faults)[Math.floor(random() * Object.keys(faults).length)]!;
        injected.set(name, (injected.get(name) ?? 0) + 1);
        total.faults++;
        writeSync(1, `  run ${runNumber}, step ${stage.steps().length}: ${name}\n`);
        const before = { steps: stage.steps().length, said: run.coordinators.map(({ output }) => output).join('') };
        await strike(run);
        await Promise.race([ended, sleep(1000)]);
        const said = run.coordinators
          .map(({ output }) => output)
          .join('')
          .slice(before.said.length);
        const back = /(?:going back to|going on after) step (\d+)/.exec(said)?.[1];
        if (back !== undefined) total.stepsLost += Math.max(0, before.steps - Number(back));
      }
      expect(await ended, run.coordinator.output).toBe(0);
      if (runNumber === 0) [model, whole] = [stage.modelHash(), stage.course()];
      expect(stage.course()).toEqual(whole);
      expect(stage.modelHash()).toBe(model);
      total.runs++;
      total.coordinators += run.coordinators.length - 1;
      total.workers += run.restartedWorkers;
      total.returns += run.coordinators
        .map(({ output }) => output.match(/going back to step/g)?.length ?? 0)
        .reduce((a, b) => a + b);
      await stage.expectEmpty(10_000);
    } finally {
      stage.clear();
      await Promise.all([control.close(), peer.close()]);
    }
  }

  process.stdout.write(
    [
      `soak: seed ${seed}, ${total.runs} runs of ${flags['steps']!} steps, the first left alone; every one ended in the same bytes`,
      ...[...injected].sort().map(([name, count]) => `  ${String(count).padStart(4)}  ${name}`),
      `${total.faults} faults injected; ${total.returns} returns to a commit, ${total.workers} workers and ${total.coordinators} coordinators started again`,
      `at least ${total.stepsLost} steps done again; hangs: none`,
    ].join('\n') + '\n',
  );
});
