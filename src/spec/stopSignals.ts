// What SIGINT, SIGTERM and SIGUSR1 mean to every process of a run: once, finish the step and stop in good order; twice, leave at once.

/** Exit codes of a second signal: 128 and its number. */
const forcedExit = { SIGINT: 130, SIGTERM: 143, SIGUSR1: 138 } as const;

/** Aborted by the first stop signal, with its name as the reason. Signals within a tenth of a second count as one. */
export function stopOnSignals(onSignal: (line: string) => void, now: () => number): AbortSignal {
  const controller = new AbortController();
  let firstMs = 0;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGUSR1'] as const) {
    process.on(signal, () => {
      if (!controller.signal.aborted) {
        firstMs = now();
        onSignal(`${signal}: finishing the step and stopping in good order; once more stops at once`);
        controller.abort(signal);
      } else if (now() - firstMs > 100) {
        process.exit(forcedExit[signal]);
      }
    });
  }
  return controller.signal;
}
