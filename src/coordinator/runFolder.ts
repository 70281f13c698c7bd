// The files of a run: config.yaml, metrics.jsonl, logs/, model.safetensors. A folder belongs to one run and is never written over.
// Invariant: a metrics or log line that cannot be written never stops training; the first failure is said once.

import { createWriteStream, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import type { WriteStream } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { RunConfig } from '../spec/config.ts';
import { StorageError, UsageError } from '../spec/errors.ts';

/** One record of metrics.jsonl. */
export type MetricsRecord = { readonly kind: 'step' | 'eval' } & Readonly<Record<string, unknown>>;

export class RunFolder {
  readonly path: string;
  readonly modelPath: string;
  readonly #metrics: WriteStream;
  readonly #log: WriteStream;

  /** Makes the folder; throws UsageError where it holds files already, StorageError where it cannot be made. */
  constructor(path: string, config: RunConfig, onProblem: (line: string) => void) {
    this.path = path;
    this.modelPath = join(path, 'model.safetensors');
    try {
      mkdirSync(join(path, 'logs'), { recursive: true });
      if (readdirSync(path).length > 1 || readdirSync(join(path, 'logs')).length > 0) {
        throw new UsageError(`${path} already holds a run, and a run is never written over: choose another --run-dir`);
      }
      writeFileSync(join(path, 'config.yaml'), stringify(config), { flag: 'wx' });
    } catch (error) {
      if (error instanceof UsageError) throw error;
      throw new StorageError(`the run's folder ${path} could not be made: ${String(error)}`, { cause: error });
    }
    const append = (name: string): WriteStream => {
      const stream = createWriteStream(join(path, name), { flags: 'a' });
      stream.once('error', (error) => {
        onProblem(`${join(path, name)} could not be written (${error.message}); training goes on without it`);
      });
      return stream;
    };
    this.#metrics = append('metrics.jsonl');
    this.#log = append(join('logs', 'coordinator.log'));
  }

  /** Where a local worker's output goes. */
  workerLog(tower: string): string {
    return join(this.path, 'logs', `worker-${tower}.log`);
  }

  record(record: MetricsRecord): void {
    if (this.#metrics.writable) this.#metrics.write(`${JSON.stringify(record)}\n`);
  }

  log(line: string): void {
    if (this.#log.writable) this.#log.write(`${new Date().toISOString()} ${line}\n`);
  }

  async close(): Promise<void> {
    await Promise.all([this.#metrics, this.#log].map(finished));
  }
}

function finished(stream: WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed) resolve();
    else stream.end(resolve);
  });
}
