// Whole runs with the real commands out of dist/ (build them first), and what a run leaves: its losses and its model's bytes.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

export interface RunResult {
  /** Of every training step, then of every evaluation. */
  readonly losses: readonly number[];
  /** sha256 of each tensor's bytes, by name. */
  readonly tensors: Readonly<Record<string, string>>;
}

/** Twenty times what a run takes, and less than a test may. */
const longestMs = 90_000;

/** A folder that `removeFolder` deletes; short, for a socket's path has at most 107 characters. */
export function makeFolder(): string {
  return mkdtempSync(join(tmpdir(), 'same-'));
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** `coordinator start --local cpu`: one command that starts its own workers, one thread each. */
export async function runLocally(runDir: string, flags: readonly string[]): Promise<RunResult> {
  const local = ['--local', 'cpu', '--threads', '1', '--bind', 'tcp://127.0.0.1:0'];
  await new Command('coordinator', ['start', ...local, '--run-dir', runDir, ...flags]).success;
  return readResult(runDir);
}

/** A coordinator and two workers as three commands, over the addresses given; `peer` is where tower 0 listens for tower 1. */
export async function runSeparately(
  runDir: string,
  { bind, peer }: { bind: string; peer: string },
  flags: readonly string[],
): Promise<RunResult> {
  const coordinator = new Command('coordinator', ['start', '--bind', bind, '--run-dir', runDir, ...flags]);
  const address = await Promise.race([coordinator.says(/(?<=listening at )\S+(?=\n)/), coordinator.success.then(() => 'none')]);
  const common = ['--cpu', '--threads', '1', '--coordinator', address];
  const workers = [
    new Command('worker', [...common, '--tower', '1']),
    new Command('worker', [...common, '--tower', '0', '--peer-address', peer]),
  ];
  await Promise.all([coordinator, ...workers].map(({ success }) => success));
  return readResult(runDir);
}

/** A command that runs, and is killed where it outlives its test. */
class Command {
  /** Rejects with what was said where the exit code is not 0. */
  readonly success: Promise<void>;
  readonly #child: ChildProcess;
  #output = '';

  constructor(name: 'coordinator' | 'worker', args: readonly string[]) {
    const script = fileURLToPath(new URL(`../../dist/src/${name}/cli.js`, import.meta.url));
    const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'], timeout: longestMs });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    this.#child = child;
    this.success = once(child, 'close').then(([code]: unknown[]) => {
      if (code !== 0) throw new Error(`${name} ended with ${String(code)}:\n${this.#output}`);
    });
  }

  /** Waits until the output so far matches. */
  says(pattern: RegExp): Promise<string> {
    return new Promise((resolve) => {
      this.#child.stdout?.on('data', () => {
        const found = pattern.exec(this.#output);
        if (found !== null) resolve(found[0]);
      });
    });
  }
}

const recordSchema = z.object({ kind: z.enum(['step', 'eval']), loss: z.number() });
const tensorSchema = z.object({ dtype: z.literal('F32'), shape: z.array(z.int()), data_offsets: z.tuple([z.int(), z.int()]) });

function readResult(runDir: string): RunResult {
  const lines = readFileSync(join(runDir, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  const records = lines.map((line) => recordSchema.parse(JSON.parse(line)));
  const file = readFileSync(join(runDir, 'model.safetensors'));
  const dataStart = 8 + Number(file.readBigUInt64LE());
  const { __metadata__: _, ...header } = z.looseObject({}).parse(JSON.parse(file.subarray(8, dataStart).toString()));
  const tensors = Object.entries(header).map(([name, entry]) => {
    const [from, to] = tensorSchema.parse(entry).data_offsets;
    return [
      name,
      createHash('sha256')
        .update(file.subarray(dataStart + from, dataStart + to))
        .digest('hex'),
    ];
  });
  return {
    losses: (['step', 'eval'] as const).flatMap((kind) => records.filter((one) => one.kind === kind).map(({ loss }) => loss)),
    tensors: Object.fromEntries(tensors) as Record<string, string>,
  };
}
