// What can go wrong, as classes: each carries the process's exit code, so that the edge (cli.ts) needs no second table.
// Invariant: a message is one sentence that says what happened, where (tower, step, address, field), and what to do.

/** Exit codes of both commands (docs/adr/0006-exit-codes.md). 130 and 143 are a second SIGINT or SIGTERM. */
export const exitCodes = {
  done: 0,
  bug: 1,
  usage: 2,
  peerLost: 3,
  refused: 4,
  data: 5,
  storage: 6,
  numeric: 7,
  outOfMemory: 8,
  stoppedEarly: 75,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** A failure that a user can act on; anything else that is thrown is a bug (exit code 1). */
export class CrosstowerError extends Error {
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
    this.name = new.target.name;
  }
}

/** A flag, a config field or the machine does not fit what was asked (exit 2). */
export class UsageError extends CrosstowerError {
  constructor(message: string, options?: ErrorOptions) {
    super(exitCodes.usage, message, options);
  }
}

/** A process is gone, silent past its deadline, or speaks nonsense (exit 3). */
export class PeerLostError extends CrosstowerError {
  constructor(message: string, options?: ErrorOptions) {
    super(exitCodes.peerLost, message, options);
  }
}

/** Nobody came within the time to join: to try again would be to wait again (exit 3). */
export class AbsentError extends PeerLostError {}

/** A process was turned away: protocol version, taken tower, address in use (exit 4). */
export class RefusedError extends CrosstowerError {
  constructor(message: string, options?: ErrorOptions) {
    super(exitCodes.refused, message, options);
  }
}

/** The dataset is missing, damaged, or not what it claims to be (exit 5). */
export class DataError extends CrosstowerError {
  constructor(message: string, options?: ErrorOptions) {
    super(exitCodes.data, message, options);
  }
}

/** A file of the run could not be written or read back (exit 6). */
export class StorageError extends CrosstowerError {
  constructor(message: string, options?: ErrorOptions) {
    super(exitCodes.storage, message, options);
  }
}

/** The loss or a gradient is not finite (exit 7). */
export class NumericError extends CrosstowerError {
  constructor(message: string, options?: ErrorOptions) {
    super(exitCodes.numeric, message, options);
  }
}

/** The device or the host has no memory left (exit 8). */
export class OutOfMemoryError extends CrosstowerError {
  constructor(message: string, options?: ErrorOptions) {
    super(exitCodes.outOfMemory, message, options);
  }
}

/** The exit code for anything that was thrown. */
export function exitCodeOf(error: unknown): ExitCode {
  return error instanceof CrosstowerError ? error.exitCode : exitCodes.bug;
}

/** Marks a branch that the types say cannot be reached. */
export function assertNever(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}
