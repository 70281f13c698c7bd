// The files of a run: config.yaml, metrics.jsonl, logs/, checkpoints/, model.safetensors. A folder belongs to one run and is never written
// over: another run is refused, the same one goes on in it (`--resume`).
// Invariant: a metrics or log line that cannot be written never stops training; the first failure is said once.

import {
  closeSync,
  createWriteStream,
  existsSync,
  fdatasyncSync,
  ftruncateSync,
  fstatSync,
  mkdirSync,
  openSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import type { WriteStream } from 'node:fs';
import { link, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { RunConfig } from '../spec/config.ts';
import { StorageError, UsageError } from '../spec/errors.ts';
import { RunLock } from './runLock.ts';

/** One record of metrics.jsonl. */
export type MetricsRecord = { readonly kind: 'step' | 'eval' } & Readonly<Record<string, unknown>>;

/** The paths of a run's files. */
export function runPaths(path: string) {
  return {
    config: join(path, 'config.yaml'),
    metrics: join(path, 'metrics.jsonl'),
    logs: join(path, 'logs'),
    checkpoints: join(path, 'checkpoints'),
    model: join(path, 'model.safetensors'),
  } as const;
}

export interface RunFolderOptions {
  readonly config: RunConfig;
  /** Go on in the folder of the run that was: its metrics are kept up to this length. */
  readonly resumeAtBytes?: number | undefined;
  readonly say: (line: string) => void;
}

export class RunFolder {
  readonly path: string;
  readonly paths: ReturnType<typeof runPaths>;
  readonly #say: (line: string) => void;
  readonly #lock: RunLock;
  readonly #log: WriteStream;
  #metrics: number | undefined;
  #metricsBytes: number;

  /** Makes or reopens the folder; throws UsageError where it holds another run, RefusedError where somebody runs in it, StorageError where it cannot be made. */
  constructor(path: string, { config, resumeAtBytes, say }: RunFolderOptions) {
    this.path = path;
    this.paths = runPaths(path);
    this.#say = say;
    try {
      mkdirSync(path, { recursive: true });
      this.#lock = RunLock.take(path, say);
      if (resumeAtBytes === undefined && holdsRun(path)) {
        this.#lock.release();
        throw new UsageError(
          `${path} already holds a run, and a run is never written over: choose another --run-dir, or go on with --resume ${path}`,
        );
      }
      mkdirSync(this.paths.logs, { recursive: true });
      writeFileSync(this.paths.config, stringify(config));
      this.#metrics = openSync(this.paths.metrics, 'a');
      const { size } = fstatSync(this.#metrics);
      this.#metricsBytes = Math.min(size, resumeAtBytes ?? 0);
      ftruncateSync(this.#metrics, this.#metricsBytes);
    } catch (error) {
      if (error instanceof Error && 'exitCode' in error) throw error;
      throw new StorageError(`the run's folder ${path} could not be made: ${String(error)}`, { cause: error });
    }
    this.#log = createWriteStream(join(this.paths.logs, 'coordinator.log'), { flags: 'a' });
    this.#log.once('error', (error) => {
      say(`${join(this.paths.logs, 'coordinator.log')} could not be written (${error.message}); training goes on without it`);
    });
  }

  /** Length of metrics.jsonl. */
  get metricsBytes(): number {
    return this.#metricsBytes;
  }

  /** Where a local worker's output goes. */
  workerLog(tower: string): string {
    return join(this.paths.logs, `worker-${tower}.log`);
  }

  record(record: MetricsRecord): void {
    this.#withMetrics((metrics) => {
      this.#metricsBytes += writeSync(metrics, `${JSON.stringify(record)}\n`);
    });
  }

  /** The records beyond this length are void: their steps are done again. */
  cutMetrics(bytes: number): void {
    this.#withMetrics((metrics) => {
      ftruncateSync(metrics, bytes);
      this.#metricsBytes = bytes;
    });
  }

  /** The records so far are on the disk: a checkpoint is about to speak of them. */
  syncMetrics(): void {
    this.#withMetrics(fdatasyncSync);
  }

  log(line: string): void {
    if (this.#log.writable) this.#log.write(`${new Date().toISOString()} ${line}\n`);
  }

  /** model.safetensors becomes that of a checkpoint: a second name for the same file. */
  async publishModel(file: string): Promise<void> {
    const temporary = `${this.paths.model}.tmp`;
    try {
      await rm(temporary, { force: true });
      await link(file, temporary);
      await rename(temporary, this.paths.model);
    } catch (error) {
      throw new StorageError(`${this.paths.model} could not be written: ${String(error)}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    if (this.#metrics !== undefined) closeSync(this.#metrics);
    await finished(this.#log);
    this.#lock.release();
  }

  #withMetrics(use: (metrics: number) => void): void {
    if (this.#metrics === undefined) return;
    try {
      use(this.#metrics);
    } catch (error) {
      this.#say(`${this.paths.metrics} could not be written (${String(error)}); training goes on without it`);
      closeSync(this.#metrics);
      this.#metrics = undefined;
    }
  }
}

/** A folder in which a run came as far as its first step. */
function holdsRun(path: string): boolean {
  const { metrics, checkpoints, model } = runPaths(path);
  return (existsSync(metrics) && statSync(metrics).size > 0) || existsSync(checkpoints) || existsSync(model);
}

function finished(stream: WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed) resolve();
    else stream.end(resolve);
  });
}
