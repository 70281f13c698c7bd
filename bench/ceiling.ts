// The machine's limit for two workers: a matrix product in two processes at once, each in a worker's environment. Measured in every round,
// because clocks and neighbours on a shared machine change within minutes.

import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { workerEnvironment } from '../src/worker/environment.ts';
import type { Setup } from '../src/worker/environment.ts';
import { LineProcess } from './lineProcess.ts';
import type { ProcessKeeper } from './processKeeper.ts';

const readySchema = z.object({ ready: z.literal(true), tensorflow: z.string() });
const answerSchema = z.object({ flops: z.number().positive() });

const measureMs = 2000;

export class Ceiling {
  readonly tensorflow: string;
  readonly #processes: readonly LineProcess[];

  private constructor(processes: readonly LineProcess[], tensorflow: string) {
    this.#processes = processes;
    this.tensorflow = tensorflow;
  }

  /** Starts both processes and waits until they are warm. */
  static async start(keeper: ProcessKeeper, { threads, setup }: { threads: number; setup: Setup }): Promise<Ceiling> {
    const script = fileURLToPath(new URL('matrixProductProcess.js', import.meta.url));
    const environment = { ...process.env, ...workerEnvironment({ kind: 'cpu', threads }, setup) };
    const processes = [0, 1].map(
      (i) => new LineProcess(keeper, { name: `matrix product ${i}`, command: process.execPath, args: [script], environment }),
    );
    const [ready] = await Promise.all(processes.map(async (one) => readySchema.parse(await one.ask())));
    return new Ceiling(processes, ready?.tensorflow ?? '');
  }

  /** FLOP/s of both processes together. */
  async measure(): Promise<number> {
    const rates = await Promise.all(
      this.#processes.map(async (one) => answerSchema.parse(await one.ask(`run ${measureMs}`)).flops),
    );
    return rates.reduce((sum, rate) => sum + rate, 0);
  }
}
