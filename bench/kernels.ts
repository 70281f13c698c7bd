// `npm run bench:kernels`: a tower's kernels by layer, with their share of the machine's limit (kernelOptions.ts has the help).
// The process that measures is this command again, in a worker's environment, which must be there before TensorFlow loads.

import { CrosstowerError, exitCodes } from '../src/spec/errors.ts';
import { readSetup, workerEnvironment } from '../src/worker/environment.ts';
import { runCommand } from './command.ts';
import { kernelsHelp, parseKernelOptions } from './kernelOptions.ts';

const marker = 'CROSSTOWER_KERNELS_PROCESS';

await runCommand('kernels', async (keeper) => {
  const options = parseKernelOptions(process.argv.slice(2));
  if (options === 'help') {
    console.log(kernelsHelp);
    return exitCodes.done;
  }
  if (process.env[marker] === '1') {
    const { measureKernels } = await import('./measureKernels.ts');
    measureKernels(options);
    return exitCodes.done;
  }
  const environment = { ...workerEnvironment({ kind: 'cpu', threads: options.threads }, readSetup()), [marker]: '1' };
  const measuring = keeper.spawn(process.execPath, process.argv.slice(1), {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const how = await measuring.ended;
  if (how !== 'exit code 0') throw new CrosstowerError(exitCodes.peerLost, `the process that measures ended early: ${how}`);
  return exitCodes.done;
});
