// `cluster-launch.sh ssh`: the coordinator on this machine, a worker on each of the hosts, which are checked before anything starts.
// Invariant: a worker's supervisor holds the far end of its ssh connection, so that no worker outlives the launcher or the connection. A
// secret key travels through that connection and lies on the host only while its worker runs.

import { execFileSync } from 'node:child_process';
import { Connections, factsCommand, parseHosts, problemsOf } from './host.mjs';
import { checkKeyChoice, coordinatorKeyFlags, keyOptions, readKeyFile, workerKeyFiles } from './keys.mjs';
import { checkBuilt, commandIn, freePort, projectFolder } from './machine.mjs';
import { pairCount, readOptions, wholeNumber, workerName } from './options.mjs';
import { runParty, supervised } from './party.mjs';
import { LaunchError, say } from './report.mjs';

const options = {
  hosts: { type: 'string' },
  bind: { type: 'string' },
  folder: { type: 'string', default: projectFolder },
  threads: { type: 'string' },
  'ssh-config': { type: 'string' },
  ...keyOptions,
};

export async function launchSsh(args) {
  const { values, startFlags } = readOptions(args, options);
  const pairs = pairCount(startFlags);
  const workers = parseHosts(values.hosts, 2 * pairs);
  const threads = wholeNumber('threads', values.threads, 'a number of threads such as 2');
  const { host, port } = parseBind(values.bind);
  checkKeyChoice(values, host);
  const keys = values.keys === undefined ? undefined : workerKeyFiles(values.keys, workers.length);
  checkBuilt();
  const address = `tcp://${host.includes(':') ? `[${host}]` : host}:${port === 0 ? await freePort(host) : port}`;

  const workerWords = ({ device }, index) => {
    const args = ['--coordinator', address, '--tower', `${index % 2}`];
    if (device === 'cpu') args.push('--cpu', ...(threads === undefined ? [] : ['--threads', `${threads}`]));
    else args.push('--gpu', device);
    if (values.insecure) args.push('--insecure');
    if (keys !== undefined) args.push(`--coordinator-key=${readKeyFile(keys.coordinator).trim()}`);
    return supervised(values.folder, 'worker', args, { node: 'node', secretKey: keys !== undefined });
  };
  const connections = new Connections(values['ssh-config']);
  try {
    await checkHosts(connections, workers, values.folder);
    return await runParty([
      {
        name: 'coordinator',
        coordinator: true,
        command: supervised(projectFolder, 'coordinator', [
          ...['start', '--bind', address],
          ...coordinatorKeyFlags(values),
          ...startFlags,
        ]),
      },
      ...workers.map((worker, index) => ({
        name: `${worker.host} ${workerName(index, pairs)}`,
        command: connections.command(worker.host, workerWords(worker, index)),
        secretKey: keys === undefined ? undefined : readKeyFile(keys.secret[index]).trim(),
      })),
    ]);
  } finally {
    await connections.close();
  }
}

/** `tcp://ADDRESS:PORT`; port 0 takes a free one. */
function parseBind(bind) {
  const [, bracketed, plain, port] = /^tcp:\/\/(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+)):(\d+)$/.exec(bind ?? '') ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || host === '0.0.0.0' || host === '::') {
    throw new LaunchError(
      `--bind is the address of this machine that the hosts can reach, such as tcp://10.0.0.5:5570 (port 0: a free one), not '${bind ?? ''}'`,
    );
  }
  return { host, port: Number(port) };
}

/** Throws one LaunchError with all that is wrong on any host. */
async function checkHosts(connections, workers, folder) {
  const version = execFileSync(commandIn(projectFolder, 'worker'), ['--version'], { encoding: 'utf8' }).trim();
  const hosts = [...new Set(workers.map(({ host }) => host))];
  const answers = await Promise.allSettled(
    hosts.map(async (host) => {
      await connections.open(host);
      const said = await connections.ask(host, factsCommand(folder));
      const devices = workers.filter((worker) => worker.host === host).map(({ device }) => device);
      return problemsOf({ host, devices, folder, version, said });
    }),
  );
  const failed = answers.find(({ status }) => status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  const problems = answers.flatMap(({ value }) => value);
  if (problems.length > 0) throw new LaunchError(problems.join('\n'));
  say(`checked ${hosts.join(', ')}: crosstower ${version} there as here`);
}
