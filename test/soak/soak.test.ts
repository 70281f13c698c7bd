// Faults at random, from a seed, for as long as one likes (`npm run soak`): runs of a small network. The oracle: every run ends as the first
// one, which was left alone, to the bit; one fault costs one return to a commit at the most; nothing hangs.

import { existsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { randomKey, randomUniform } from '../../src/spec/random.ts';
import { FaultProxy } from '../processes/faultProxy.ts';
import { Stage, freeAddress } from '../processes/stage.ts';
import type { Flags } from '../processes/stage.ts';
import { faults } from './faults.ts';
import { FaultyRun } from './faultyRun.ts';
import { SoakReport } from './soakReport.ts';

const minutes = Number(process.env['CROSSTOWER_SOAK_MINUTES'] ?? 1);
const seed = Number(process.env['CROSSTOWER_SOAK_SEED'] ?? 1);
const folder = process.env['CROSSTOWER_SOAK_FOLDER'];

/** Half a minute without faults, some minutes with them, and a few commits between two of them. */
const flags: Flags = {
  steps: 800,
  'checkpoint-every': 100,
  'commit-every': 20,
  'max-restarts': 50,
  'step-timeout': 3,
  'join-timeout': 60,
};
/** For the last run, which begins before the time is up. */
const overtimeMs = 480_000;

test(`soak of ${minutes} minutes, seed ${seed}`, { timeout: 60_000 * minutes + overtimeMs }, async () => {
  const key = randomKey(seed, 'order', 'soak');
  let drawn = 0;
  const random = (): number => randomUniform(key, drawn++);
  const deadline = performance.now() + 60_000 * minutes;
  const report = new SoakReport(`seed ${seed}, ${minutes} minutes, runs of ${flags['steps']!} steps`, folder);
  let first: { model: string; course: unknown[] } | undefined;

  for (let runNumber = 0; runNumber === 0 || performance.now() < deadline; runNumber++) {
    const stage = new Stage();
    const [bind, peerAddress] = await Promise.all([freeAddress(), freeAddress()]);
    const links = { control: await FaultProxy.listen(bind), peer: await FaultProxy.listen(peerAddress) };
    const run = new FaultyRun(stage, flags, links);
    try {
      const ended = run.keep(bind, peerAddress);
      ended.catch(() => undefined);
      // The first run is left alone.
      const struck = runNumber === 0 ? Promise.resolve(0) : strikeUntilOver(run, stage, { random, report, ended, runNumber });
      struck.catch(() => undefined);
      const hang = await Promise.race([run.watch(), interruption(run), ended.then(() => undefined)]);
      if (isInterrupted()) {
        report.end = 'interrupted';
        return;
      }
      if (hang !== undefined) {
        report.hung(`run ${runNumber}, ${hang}`);
        throw new Error(`HANG in run ${runNumber}: ${hang}\n${run.lastState()}`);
      }
      expect(await ended, run.lastState()).toBe(0);
      const faultsHere = await struck;
      const end = { model: stage.modelHash(), course: stage.course() };
      first ??= end;
      expect(end.course, run.lastState()).toEqual(first.course);
      expect(end.model, run.lastState()).toBe(first.model);
      expect(run.returns, run.said).toBeLessThanOrEqual(faultsHere);
      report.runs++;
      await stage.expectEmpty(10_000);
    } catch (error) {
      report.end = 'failed';
      throw error;
    } finally {
      run.isOver = true;
      report.returns += run.returns;
      report.coordinators += run.restarts.coordinators;
      report.workers += run.restarts.workers;
      report.write();
      stage.clear();
      await Promise.all([links.control.close(), links.peer.close()]);
    }
  }
  report.end = 'its time is over';
  report.write();
});

interface Strike {
  readonly random: () => number;
  readonly report: SoakReport;
  readonly ended: Promise<unknown>;
  readonly runNumber: number;
}

/** One fault after the other, some seconds apart; gives their number. */
async function strikeUntilOver(run: FaultyRun, stage: Stage, { random, report, ended, runNumber }: Strike): Promise<number> {
  let count = 0;
  let told = 0;
  for (;;) {
    await Promise.race([ended, sleep(2000 + 5000 * random())]);
    const news = run.said.slice(told).split('\n');
    told = run.said.length;
    for (const line of news.filter((each) => /going back|going on after|turned|refused/.test(each)))
      writeSync(1, `      ${line}\n`);
    if (run.isOver) return count;
    // A fault now would hit a run that has just been started again and has no worker yet.
    if (stage.processes().filter(({ isRealWorker }) => isRealWorker).length < 2) continue;
    const [name, strike] = Object.entries(faults)[Math.floor(random() * Object.keys(faults).length)]!;
    const tower = random() < 0.5 ? 0 : 1;
    const before = { steps: stage.steps().length, said: run.said.length };
    count++;
    report.injected(name);
    writeSync(1, `  run ${runNumber}, step ${before.steps}: ${name}\n`);
    await strike(run, tower);
    await Promise.race([ended, sleep(1000)]);
    const said = run.said.slice(before.said);
    const back = /(?:going back to|going on after) step (\d+)/.exec(said)?.[1];
    if (back !== undefined) report.stepsLost += Math.max(0, before.steps - Number(back));
  }
}

/** Whether scripts/soak.mjs was told to stop. */
function isInterrupted(): boolean {
  return folder !== undefined && existsSync(join(folder, 'stop'));
}

/** Settles when somebody tells the soak to stop, or the run is over. */
async function interruption(run: FaultyRun): Promise<undefined> {
  while (!run.hasEnded && !isInterrupted()) await sleep(200);
}
