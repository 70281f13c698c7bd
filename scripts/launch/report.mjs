// What the launcher says itself, as opposed to the processes of a run, and how it gives up.

/** Something that the user can mend: one sentence, and the exit code. */
export class LaunchError extends Error {
  constructor(message, exitCode = 2) {
    super(message);
    this.name = 'LaunchError';
    this.exitCode = exitCode;
  }
}

/** Prints a message, each of its lines marked as the launcher's. */
export function say(message) {
  for (const line of message.split('\n')) process.stderr.write(`cluster-launch: ${line}\n`);
}
