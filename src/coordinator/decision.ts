// What happens with a step, decided once for all towers: applied with one rate and one scale, or skipped. All apply it, or none does.

import type { RunConfig } from '../spec/config.ts';
import { NumericError } from '../spec/errors.ts';
import { towers } from '../spec/layout.ts';

/** What one tower of a replica says of its gradients. */
export interface GradientReport {
  readonly tower: 0 | 1;
  /** Its pictures' part of the mean loss. */
  readonly loss: number;
  /** Squared L2 norm of the gradients this tower speaks for, of the whole batch. */
  readonly squaredNorm: number;
}

export interface Decision {
  readonly verdict: 'apply' | 'skip';
  readonly learningRate: number;
  /** Factor of the gradients. */
  readonly scale: number;
}

/** Steps in a row that `--non-finite skip` puts up with. */
export const skipLimit = 5;

/**
 * Decides on one step from the reports of both towers of every replica, in the order of the replicas. The norm that is clipped is that of the
 * gradients of both towers together, which all replicas have alike.
 * Throws NumericError where a loss or gradient is not finite and the config says to abort, or once too often.
 */
export function decide(
  reports: readonly GradientReport[],
  config: Pick<RunConfig, 'clipNorm' | 'nonFinite'>,
  { step, learningRate, skippedBefore }: { step: number; learningRate: number; skippedBefore: number },
): Decision {
  const broken = reports.find((report) => !Number.isFinite(report.loss) || !Number.isFinite(report.squaredNorm));
  if (broken !== undefined) {
    const what =
      `step ${String(step)}, tower ${String(broken.tower)}: loss ${String(broken.loss)}, ` +
      `squared gradient norm ${String(broken.squaredNorm)}`;
    if (config.nonFinite === 'abort') {
      throw new NumericError(`${what}; no tower applied the step. Try a lower --lr, --clip-norm 1, or --non-finite skip`);
    }
    if (skippedBefore >= skipLimit) {
      throw new NumericError(
        `${what}, after ${String(skipLimit)} steps skipped for the same reason. Try a lower --lr or --clip-norm 1`,
      );
    }
    return { verdict: 'skip', learningRate, scale: 1 };
  }
  const norm = Math.sqrt(reports.slice(0, towers.length).reduce((sum, report) => sum + report.squaredNorm, 0));
  const scale = config.clipNorm !== undefined && norm > config.clipNorm ? config.clipNorm / norm : 1;
  return { verdict: 'apply', learningRate, scale };
}
