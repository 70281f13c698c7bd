// `cluster-launch.sh local`: the coordinator and its workers on this machine.

import { checkBuilt, freePort, gpuCount, projectFolder } from './machine.mjs';
import { pairCount, readOptions, wholeNumber, workerName } from './options.mjs';
import { runParty, supervised } from './party.mjs';
import { LaunchError } from './report.mjs';

const options = {
  cpu: { type: 'boolean' },
  gpus: { type: 'string' },
  threads: { type: 'string' },
  port: { type: 'string' },
};

export async function launchLocal(args) {
  const { values, startFlags } = readOptions(args, options);
  const threads = wholeNumber('threads', values.threads, 'a number of threads such as 2');
  const port = wholeNumber('port', values.port, 'a port such as 7000');
  const pairs = pairCount(startFlags);
  const devices = deviceFlags(values, pairs, gpuCount);
  if (values.gpus !== undefined && threads !== undefined)
    throw new LaunchError('--threads is for --cpu, and says nothing to a GPU');
  checkBuilt();

  const address = `tcp://127.0.0.1:${port ?? (await freePort('127.0.0.1'))}`;
  return runParty([
    {
      name: 'coordinator',
      coordinator: true,
      command: supervised(projectFolder, 'coordinator', ['start', '--bind', address, ...startFlags]),
    },
    ...devices.map((device, index) => ({
      name: workerName(index, pairs),
      command: supervised(projectFolder, 'worker', [
        ...['--coordinator', address, '--tower', `${index % 2}`, device],
        ...(device === '--cpu' && threads !== undefined ? ['--threads', `${threads}`] : []),
      ]),
    })),
  ]);
}

/** The flag that says what each worker computes on, two for each pair; throws LaunchError. */
export function deviceFlags({ cpu, gpus }, pairs, countGpus) {
  const workers = 2 * pairs;
  if (cpu && gpus !== undefined) throw new LaunchError('--cpu and --gpus exclude each other');
  if (gpus !== undefined) {
    const numbers = gpus.split(',');
    if (numbers.length !== workers || !numbers.every((text) => /^\d+$/.test(text))) {
      const example = Array.from({ length: workers }, (_, i) => i).join(',');
      throw new LaunchError(`--gpus is ${workers} GPU numbers such as ${example}, not '${gpus}'`);
    }
    return numbers.map((number) => `--gpu=${number}`);
  }
  const there = cpu ? 0 : countGpus();
  return Array.from({ length: workers }, (_, i) => (there === 0 ? '--cpu' : `--gpu=${i % there}`));
}
