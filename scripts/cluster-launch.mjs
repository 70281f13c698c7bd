// Starts a whole run: one `coordinator start` and a `worker` for each tower, each a command of its own, on this machine, over SSH, or as
// a Slurm job. What is common to the places (processes that are watched, marked output, one stop, one exit code) is in launch/party.mjs.
// Exit codes: 0 when all ended well, else that of the process that failed first; 2 where the command line or a machine lacks something.

import { launchHelp } from './launch/help.mjs';
import { launchLocal } from './launch/local.mjs';
import { launchSlurm } from './launch/slurm.mjs';
import { launchSsh } from './launch/ssh.mjs';
import { LaunchError, say } from './launch/report.mjs';

const places = { local: launchLocal, ssh: launchSsh, slurm: launchSlurm };

async function main([place, ...args]) {
  if (place === '--help' || place === '-h' || args.some((arg, i) => arg === '--help' && !args.slice(0, i).includes('--'))) {
    process.stdout.write(launchHelp);
    return 0;
  }
  const example = 'scripts/cluster-launch.sh local -- --network compact (--help shows more)';
  if (place === undefined) throw new LaunchError(`say where to run: ${example}`);
  const launch = Object.hasOwn(places, place) ? places[place] : undefined;
  if (launch === undefined) {
    throw new LaunchError(`'${place}' is not a place to run: ${Object.keys(places).join(', ')} are; for example ${example}`);
  }
  return launch(args);
}

// A reader that goes away (`| head`) is no reason to stop training.
process.stdout.on('error', () => undefined);
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof LaunchError)) throw error;
  say(error.message);
  process.exitCode = error.exitCode;
}
