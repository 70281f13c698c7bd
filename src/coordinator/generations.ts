// A run as a row of generations (docs/adr/0016-recovery.md): gather the workers, train from the last commit, and when a worker is lost, again.
// Whoever survived stays and returns to the last commit; a local worker that was lost is started again, any other is waited for.
// Invariant: a generation begins when nothing of the one before is under way, and with metrics cut back to its first step, so that what a
// run ends with is what it would have ended with undisturbed, to the bit.

import { AbsentError, exitCodeOf, exitCodes } from '../spec/errors.ts';
import type { CrosstowerError } from '../spec/errors.ts';
import type { LocalWorkers } from './localWorkers.ts';
import type { RunStart } from './runStart.ts';
import { train } from './training.ts';
import type { TrainingOptions, TrainingResult } from './training.ts';
import { gatherUnlessStopped } from './workplace.ts';

export interface GenerationsOptions extends Omit<TrainingOptions, 'from' | 'facts'> {
  readonly facts: Omit<TrainingOptions['facts'], 'generation'>;
  readonly local: LocalWorkers;
  /** Shows a line and logs it. */
  readonly say: (line: string) => void;
}

/** Trains until the config's end or a stop, through at most --max-restarts losses without a new commit in between; throws the last one. */
export async function trainThroughLosses(firstStart: RunStart, options: GenerationsOptions): Promise<TrainingResult> {
  const { config, group, folder, commits, local, stop, say } = options;
  let start = firstStart;
  let restarts = 0;
  for (;;) {
    const { step } = start.from;
    try {
      const savedStep = commits.savedStep ?? firstStart.from.step;
      const saved = savedStep === 0 ? 'nothing was saved' : `the checkpoint of step ${String(savedStep)} is as it was`;
      const when = start === firstStart ? 'before training began' : 'while a lost worker was waited for';
      await gatherUnlessStopped(group, stop, `stopped ${when}: ${saved}`).finally(() => start.close());
      return await train({ ...options, from: start.from, facts: { ...options.facts, generation: group.generation } });
    } catch (error) {
      if (exitCodeOf(error) === exitCodes.peerLost) folder.log(`the last messages:\n${group.recentHeaders().join('\n')}`);
      if (!isRecoverable(error)) throw error;
      await group.endGeneration(error);
      await commits.abandon();
      restarts = commits.step > step ? 1 : restarts + 1;
      if (restarts > config.maxRestarts) throw error;
      say(
        `${error.message}; going back to step ${String(commits.step)}, restart ${String(restarts)} of ${String(config.maxRestarts)}`,
      );
    }
    await local.replace((seats) => seats.some((seat) => group.isMissing(seat)));
    start = await commits.reopen();
    folder.cutMetrics(start.metricsBytes);
    group.startGeneration({ state: start.state, step: start.from.step });
  }
}

/** Somebody is gone, or silent: not somebody who never came, nor one who said why it cannot go on. */
function isRecoverable(error: unknown): error is CrosstowerError {
  return exitCodeOf(error) === exitCodes.peerLost && !(error instanceof AbsentError);
}
