// What a command of `coordinator` is: its flags and help as plain data for cli.ts, and what it does. One file each in commands/.

import type { z } from 'zod';
import { UsageError } from '../spec/errors.ts';
import type { ExitCode } from '../spec/errors.ts';

/** A flag as yargs takes it. */
export interface Flag {
  readonly group?: string;
  readonly type: 'number' | 'string' | 'boolean';
  readonly describe: string;
  readonly requiresArg?: true;
  readonly choices?: readonly (string | number)[];
  readonly default?: string | number | boolean;
  readonly implies?: string;
  readonly demandOption?: true;
}

/** What `-` stands for on a command line. */
export const standardInput = '/dev/stdin';

/** The world that a command acts in, handed over by cli.ts. */
export interface CommandContext {
  readonly output: NodeJS.WriteStream;
  /** Standard error, for what is said beside the output. */
  readonly errors: NodeJS.WriteStream;
  readonly input: NodeJS.ReadStream;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  readonly packageVersion: string;
  /** Takes the stop signals from here on: aborted by the first, with its name as the reason; a second one ends the process. */
  readonly takeSignals: (say: (line: string) => void) => AbortSignal;
}

export interface Command {
  /** As yargs takes it: `start`, or with arguments, `predict <images..>`. */
  readonly name: string;
  readonly describe: string;
  readonly flags: Readonly<Record<string, Flag>>;
  /** Command lines (without the program's name) and what they are for. */
  readonly examples: readonly (readonly [string, string])[];
  readonly epilogue?: string;
  readonly run: (argv: Readonly<Record<string, unknown>>, context: CommandContext) => Promise<ExitCode>;
}

/** Reads a command's own flags from what yargs parsed; throws UsageError naming each one that is wrong. */
export function parseFlags<Schema extends z.ZodType>(schema: Schema, argv: Readonly<Record<string, unknown>>): z.infer<Schema> {
  const parsed = schema.safeParse(argv);
  if (parsed.success) return parsed.data;
  throw new UsageError(parsed.error.issues.map((issue) => `--${issue.path.join('.')}: ${issue.message}`).join('; '));
}
