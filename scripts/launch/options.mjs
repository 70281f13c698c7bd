// The launcher's command line: its own options, a --, and what goes to `coordinator start`.

import { parseArgs } from 'node:util';
import { LaunchError } from './report.mjs';

/** Splits at the -- and reads the launcher's part, options as `parseArgs` takes them; throws LaunchError. */
export function readOptions(args, options) {
  const at = args.indexOf('--');
  const own = at < 0 ? args : args.slice(0, at);
  const startFlags = at < 0 ? [] : args.slice(at + 1);
  for (const flag of startFlags) {
    if (/^--(bind|local)/.test(flag)) {
      throw new LaunchError(`${flag.split('=')[0]} is the launcher's to choose; its own options come before the -- (--help)`);
    }
  }
  try {
    const { values } = parseArgs({ args: own, options, strict: true, allowPositionals: false });
    return { values, startFlags };
  } catch (error) {
    const [sentence] = error.message.split(/[.\n]/);
    throw new LaunchError(`${sentence}; flags of the coordinator come after a -- (--help shows examples)`);
  }
}

/** A whole number from 1, or undefined where nothing was said. */
export function wholeNumber(flag, text, what) {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d*$/.test(text)) throw new LaunchError(`--${flag} is ${what}, not '${text}'`);
  return Number(text);
}

/** What `coordinator start` will be told of a flag: the value of `--name VALUE` or `--name=VALUE`. */
export function valueOfFlag(startFlags, name) {
  const at = startFlags.findIndex((flag) => flag === `--${name}` || flag.startsWith(`--${name}=`));
  if (at < 0) return undefined;
  return startFlags[at].includes('=') ? startFlags[at].slice(name.length + 3) : startFlags[at + 1];
}

/** Pairs of towers in the run. */
export function pairCount(startFlags) {
  return wholeNumber('replicas', valueOfFlag(startFlags, 'replicas'), 'a number of pairs such as 2') ?? 1;
}

/** What to call the worker of this place in the order. */
export function workerName(index, pairs) {
  return pairs === 1 ? `tower ${index % 2}` : `pair ${Math.floor(index / 2)} tower ${index % 2}`;
}
