// What the smaller benchmarks share: flags that are numbers, lists of numbers or switches, the machine, and a table or one JSON object.

import { parseArgs } from 'node:util';
import { UsageError } from '../src/spec/errors.ts';
import { readSetup } from '../src/worker/environment.ts';
import { busyWarning, describeMachine } from './machine.ts';
import type { Machine } from './machine.ts';
import { atLeast } from './throughputOptions.ts';

/** Reads `--name value` flags, all of them optional; throws UsageError for one that is not known. */
export function parseBenchFlags<Name extends string>(
  argv: readonly string[],
  names: readonly Name[],
): Readonly<Partial<Record<Name, string>>> & { readonly isHelp: boolean; readonly isJson: boolean } {
  const options = Object.fromEntries(names.map((name) => [name, { type: 'string' as const }]));
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: { ...options, json: { type: 'boolean' }, help: { type: 'boolean' } },
    });
    const { json = false, help = false, ...given } = values;
    return { ...(given as Partial<Record<Name, string>>), isHelp: help, isJson: json };
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}; --help shows the options`, { cause: error });
  }
}

/** `16,32` as numbers; throws UsageError naming the flag. */
export function numberList(flag: string, text: string): number[] {
  return text.split(',').map((part) => atLeast(1, flag, part));
}

/** Progress, on standard error. */
export function sayer(name: string): (line: string) => void {
  return (line) => process.stderr.write(`${name}: ${line}\n`);
}

/** Says what would spoil the figures. */
export function warnIfBusy(say: (line: string) => void): void {
  const warning = busyWarning();
  if (warning !== undefined) say(warning);
}

/** The machine, where no TensorFlow runs in this process to ask for its version. */
export function thisMachine(): Omit<Machine, 'tensorflow'> {
  const { tensorflow: _unknown, ...machine } = describeMachine('', readSetup());
  return machine;
}

/** One line of a report. */
export function machineLine({ cpu, cores, memoryBytes, node }: Omit<Machine, 'tensorflow'>): string {
  return `${cores} cores of ${cpu}, ${(memoryBytes / 2 ** 30).toFixed(0)} GiB, Node ${node}`;
}
