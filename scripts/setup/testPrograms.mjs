// sshd and Slurm for the tests of the launcher: Debian's packages, unpacked into the cache without root, where nothing of them ever runs
// but what a test starts and stops. Elsewhere the tests take what is installed (test/processes/programs.ts).
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError, run } from './report.mjs';
import { stagingFolder } from './staging.mjs';

/** The programs, and those of their libraries that a small machine lacks. */
const packages = [
  ...['openssh-server', 'libwrap0', 'libaudit1'],
  ...['slurmctld', 'slurmd', 'slurm-client', 'slurm-wlm-basic-plugins', 'munge', 'libmunge2'],
  ...['libhwloc15', 'libnuma1', 'libdbus-1-3', 'libjson-c5', 'liblua5.1-0', 'libyaml-0-2', 'liblz4-1'],
];

/** The folder of the unpacked packages, if it is there; else null. */
export function findTestPrograms(cache) {
  const folder = testProgramsFolder(cache);
  return existsSync(folder) ? folder : null;
}

/** Downloads and unpacks the packages, and returns their folder; null where this is not Debian or has no network. */
export async function fetchTestPrograms(cache) {
  const staging = stagingFolder(cache);
  try {
    await run('apt-get', ['download', ...packages], { cwd: staging });
    for (const archive of readdirSync(staging).filter((name) => name.endsWith('.deb'))) {
      await run('dpkg-deb', ['-x', archive, 'unpacked'], { cwd: staging });
    }
  } catch (error) {
    if (error instanceof SetupError) return null;
    throw error;
  }
  const folder = testProgramsFolder(cache);
  renameSync(join(staging, 'unpacked'), folder);
  return folder;
}

function testProgramsFolder(cache) {
  const list = createHash('sha256').update(packages.join()).digest('hex').slice(0, 8);
  return join(cache, `test-programs-${list}`);
}
