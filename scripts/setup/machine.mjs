// What the set-up needs of the machine. Each missing thing becomes one sentence with the command that mends it, and all of
// them are found before the first download begins.
import { spawnSync } from 'node:child_process';
import { statfsSync } from 'node:fs';

const oldestNode = [20, 19];
const firstUnsupportedMajor = 23;

// Wheels while they are downloaded, plus what is taken out of them, plus room to compile.
const neededGigabytes = { cpu: 2, gpu: 12 };

/** Sentences on what can never work here: the wrong Node, the wrong kind of machine. */
export function unsupportedPlatform(version = process.versions.node, platform = `${process.platform}-${process.arch}`) {
  const problems = [];
  const [major, minor] = version.split('.').map(Number);
  const tooOld = major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1]);
  if (tooOld || major >= firstUnsupportedMajor) {
    problems.push(
      `Node ${version} does not fit: crosstower needs 20.19 or later, below ${firstUnsupportedMajor} (tfjs-node breaks on later ones). ` +
        'Install Node 22, for example with: nvm install 22',
    );
  }
  if (platform !== 'linux-x64') {
    problems.push(
      `crosstower runs on Linux on x86-64, and this is ${platform}: use such a machine, a virtual one, or a container on one.`,
    );
  }
  return problems;
}

/** Sentences on what the pending steps need and this machine lacks. */
export function missingTools({ cache, device, download, compile }) {
  const problems = [];
  if (download) {
    if (!runs('python3', '--version')) {
      problems.push(
        'python3 is missing (it downloads and unpacks the TensorFlow wheel): sudo apt-get install python3 python3-pip',
      );
    } else if (!runs('python3', '-m', 'pip', '--version')) {
      problems.push('python3 has no pip (it downloads the TensorFlow wheel): sudo apt-get install python3-pip');
    }
    const { bavail, bsize } = statfsSync(cache);
    const freeGigabytes = (bavail * bsize) / 1e9;
    if (freeGigabytes < neededGigabytes[device]) {
      problems.push(
        `${cache} has ${freeGigabytes.toFixed(1)} GB free and TensorFlow for the ${device.toUpperCase()} needs ${neededGigabytes[device]} GB: ` +
          'make room, or choose another folder: CROSSTOWER_CACHE=/some/folder npm run setup',
      );
    }
  }
  if (compile && !runs('g++', '--version')) {
    problems.push('g++ is missing (it compiles the binding of tfjs-node): sudo apt-get install g++');
  }
  return problems;
}

function runs(command, ...args) {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}
