// An OpenSSH server on the loopback interface with keys and configuration of its own, and a client configuration that knows its host by
// several names. Nothing of the machine's own SSH is used or changed: as root, which sshd demands a user and a folder of, these exist in a
// mount namespace only.

import { execFileSync } from 'node:child_process';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { findFile, isRoot, programEnvironment, works } from './programs.ts';
import { freeAddress } from './stage.ts';
import type { Command, Stage } from './stage.ts';

const sshd = findFile('usr/sbin/sshd');

/** Why there can be no server here; undefined where there can. */
export function whyNoSshServer(): string | undefined {
  if (sshd === undefined) return 'no sshd here; Debian: openssh-server';
  if (!works('ssh', '-V')) return 'no ssh here; Debian: openssh-client';
  if (isRoot && !works('unshare', '--mount', 'true')) return 'root may not make a mount namespace here';
  return undefined;
}

export interface SshServer {
  /** For `ssh -F`: every name leads to this server. */
  readonly clientConfig: string;
  readonly stop: () => Promise<void>;
}

/** Starts a server that lets the current user in. */
export async function startSshServer(stage: Stage): Promise<SshServer> {
  const port = (await freeAddress()).split(':').at(-1)!;
  for (const name of ['host-key', 'user-key']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', stage.path(name)]);
  }
  const serverConfig = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${stage.path('host-key')}`,
    `AuthorizedKeysFile ${stage.path('user-key.pub')}`,
    'PidFile none',
    'StrictModes no', // Our keys lie under /tmp.
    'PasswordAuthentication no',
    `SetEnv ${stage.mark} PATH=${process.env['PATH'] ?? ''}`,
  ];
  const clientConfig = [
    'Host *',
    'HostName 127.0.0.1',
    `Port ${port}`,
    `User ${userInfo().username}`,
    `IdentityFile ${stage.path('user-key')}`,
    'IdentitiesOnly yes',
    `UserKnownHostsFile ${stage.path('known-hosts')}`,
    'StrictHostKeyChecking accept-new',
  ];
  writeFileSync(stage.path('sshd_config'), `${serverConfig.join('\n')}\n`);
  writeFileSync(stage.path('ssh_config'), `${clientConfig.join('\n')}\n`);
  const server = startDaemon(stage);
  await server.said(/Server listening/);
  return {
    clientConfig: stage.path('ssh_config'),
    stop: async () => {
      server.signal('SIGTERM');
      await server.exit();
    },
  };
}

function startDaemon(stage: Stage): Command {
  const libraries = `LD_LIBRARY_PATH=${programEnvironment()['LD_LIBRARY_PATH'] ?? ''}`;
  const words = ['env', libraries, sshd!, '-D', '-e', '-f', stage.path('sshd_config')];
  if (!isRoot) return stage.start(words[0]!, words.slice(1));
  const users = stage.path('passwd');
  writeFileSync(users, readFileSync('/etc/passwd'));
  appendFileSync(users, 'sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n');
  const prepare = `mount --bind '${users}' /etc/passwd && mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec "$@"`;
  return stage.start('unshare', ['--mount', 'sh', '-c', prepare, 'sh', ...words]);
}
