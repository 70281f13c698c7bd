// One run of an ablation: a `coordinator start` of its own, in DIR/runs/VARIANT/seed-N, with its output in seed-N.log beside it.
// Invariant: what a run folder holds decides whether the run is done, so an ablation that was stopped anywhere goes on from what is there;
// and no child outlives the ablation: it is told to stop with it.

import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { UsageError, exitCodes } from '../../spec/errors.ts';
import type { ExitCode } from '../../spec/errors.ts';
import { stepsPerEpoch, totalSteps } from '../../spec/schedule.ts';
import { newestCheckpoint } from '../checkpoints.ts';
import { runPaths } from '../runFolder.ts';
import { RunLock } from '../runLock.ts';
import { readCourse } from './results.ts';
import type { Result } from './results.ts';
import type { Variant } from './variants.ts';

const coordinatorCommand = fileURLToPath(new URL('../cli.js', import.meta.url));

export interface PlannedRun extends Variant {
  readonly runDir: string;
}

/** A child that did not finish its run. */
export interface Failure {
  readonly exitCode: ExitCode;
  /** `ended with exit code 5: what it said last (its log)`. */
  readonly message: string;
}

/** The result of a run that is done; nothing where it has not begun or has to go on. Throws UsageError where the folder holds a run of another config. */
export async function finishedResult(run: PlannedRun, say: (line: string) => void): Promise<Result | undefined> {
  const { config, runDir } = run;
  const paths = runPaths(runDir);
  const newest = await newestCheckpoint(paths.checkpoints, say);
  if (newest === undefined) return undefined;
  const { manifest } = newest;
  const fields = Object.keys({ ...config, ...manifest.config }) as (keyof typeof config)[];
  const other = fields.filter((field) => JSON.stringify(config[field]) !== JSON.stringify(manifest.config[field]));
  if (other.length > 0) {
    const texts = other.map((field) => `${field} ${inWords(manifest.config[field])} then, ${inWords(config[field])} now`);
    throw new UsageError(`${runDir} was run with another config (${texts.join('; ')}): choose another --out`);
  }
  const lastStep = totalSteps(config, manifest.data.train);
  if (manifest.step < lastStep || !existsSync(paths.model)) return undefined;
  const course = readCourse(paths.metrics);
  // The run was stopped between its last step and its last evaluation.
  if (course.evaluations.at(-1)?.step !== lastStep) return undefined;
  return { variant: run.name, seed: run.seed, stepsPerEpoch: stepsPerEpoch(config, manifest.data.train), course };
}

function inWords(value: unknown): string {
  return value === undefined ? 'none' : JSON.stringify(value);
}

/** Starts or goes on with a run and waits for its end; a stop is passed on to it. Gives what went wrong, if anything did. */
export async function runChild(
  run: PlannedRun,
  { threads, stop, say }: { threads: number | undefined; stop: AbortSignal; say: (line: string) => void },
): Promise<Failure | undefined> {
  const { runDir, config } = run;
  const configFile = `${runDir}.yaml`;
  const logFile = `${runDir}.log`;
  mkdirSync(dirname(runDir), { recursive: true });
  writeFileSync(configFile, stringify(config));
  if ((await newestCheckpoint(runPaths(runDir).checkpoints, say)) === undefined) clearBeginning(runDir, say);
  const args = ['start', '--config', configFile, '--local', 'cpu', '--run-dir', runDir, '--resume', 'auto'];
  if (threads !== undefined) args.push('--threads', String(threads));

  const log = openSync(logFile, 'a');
  // A process group of its own: Ctrl-C at the terminal reaches the ablation, which passes it on once.
  const child = spawn(process.execPath, [coordinatorCommand, ...args], { stdio: ['ignore', log, log], detached: true });
  closeSync(log);
  const passOn = (): void => {
    child.kill(stop.reason as NodeJS.Signals);
  };
  // To a child that has been told to stop, the second signal: it leaves at once.
  const leaveToo = (): void => {
    child.kill('SIGTERM');
  };
  stop.addEventListener('abort', passOn, { once: true });
  process.once('exit', leaveToo);
  try {
    return await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        if (code === exitCodes.done) resolve(undefined);
        else resolve(failureOf(code, signal, logFile));
      });
    });
  } finally {
    stop.removeEventListener('abort', passOn);
    process.removeListener('exit', leaveToo);
  }
}

function failureOf(code: number | null, signal: NodeJS.Signals | null, logFile: string): Failure {
  const what = signal === null ? `ended with exit code ${String(code)}` : `was killed by ${signal}`;
  return {
    // As of a worker that is gone, where the code is none of ours.
    exitCode: Object.values(exitCodes).find((known) => known === code) ?? exitCodes.peerLost,
    message: `${what}: ${lastLine(logFile)} (${logFile})`,
  };
}

/** A run that ended before its first checkpoint begins anew, which `start` does in an empty folder only. */
function clearBeginning(runDir: string, say: (line: string) => void): void {
  if (!existsSync(runDir)) return;
  const lock = RunLock.take(runDir, say);
  const { metrics, checkpoints, model } = runPaths(runDir);
  for (const path of [metrics, checkpoints, model]) rmSync(path, { recursive: true, force: true });
  lock.release();
}

function lastLine(path: string): string {
  return readFileSync(path, 'utf8').trimEnd().split('\n').at(-1) ?? '';
}
