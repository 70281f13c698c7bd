// Whole runs with the real commands out of dist/ (build them first), and what a run leaves: its losses and its model's bytes.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

export interface RunResult {
  /** Of every training step, then of every evaluation. */
  readonly losses: readonly number[];
  /** sha256 of each tensor's bytes, by name. */
  readonly tensors: Readonly<Record<string, string>>;
}

type Command = 'coordinator' | 'worker';

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
  await succeed('coordinator', start('coordinator', ['start', ...local, '--run-dir', runDir, ...flags]));
  return readResult(runDir);
}

/** A coordinator and two workers as three commands, over the addresses given; `peer` is where tower 0 listens for tower 1. */
export async function runSeparately(
  runDir: string,
  { bind, peer }: { bind: string; peer: string },
  flags: readonly string[],
): Promise<RunResult> {
  const coordinator = start('coordinator', ['start', '--bind', bind, '--run-dir', runDir, ...flags]);
  const coordinated = succeed('coordinator', coordinator);
  const address = await Promise.race([wordAfter(coordinator, 'listening at '), coordinated.then(() => 'nowhere')]);
  const join = ['--cpu', '--threads', '1', '--coordinator', address];
  const workers = [
    start('worker', [...join, '--tower', '1']),
    start('worker', [...join, '--tower', '0', '--peer-address', peer]),
  ];
  await Promise.all([coordinated, ...workers.map((worker) => succeed('worker', worker))]);
  return readResult(runDir);
}

function start(command: Command, args: readonly string[]): ChildProcess {
  const script = fileURLToPath(new URL(`../../dist/src/${command}/cli.js`, import.meta.url));
  return spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Waits for the end, and throws what was said where the exit code is not 0. */
async function succeed(command: Command, child: ChildProcess): Promise<void> {
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${command} ended with ${String(code)}:\n${output}`);
}

/** The rest of the first line that holds `text`, up to a space. */
async function wordAfter({ stdout }: ChildProcess, text: string): Promise<string> {
  if (stdout === null) throw new Error('the command has no output');
  for await (const line of createInterface(stdout)) {
    const at = line.indexOf(text);
    if (at >= 0) return line.slice(at + text.length).split(' ')[0]!;
  }
  throw new Error(`the command never said '${text}'`);
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
