// Finds Fashion-MNIST, or fetches it once into the cache folder: from Debian's package where it is installed, with apt-get, or from
// the address it was published at (Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking", 2017).
// Invariant: a file enters the cache under its name only after its content has matched its hash, and is checked again at every start.
// The cache holds the files unpacked (55 MB): that is what the hashes are of, whatever way the files came, and it opens at once.

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pipeline, Readable } from 'node:stream';
import { promisify } from 'node:util';
import { createGunzip } from 'node:zlib';
import { DataError } from '../spec/errors.ts';

/** The names of classes 0 to 9. */
export const fashionMnistClasses = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
] as const;

/** A way to get at the files. */
export interface FileSource {
  readonly name: string;
  /** Opens a file as it is published, gzip; may put what it needs on the way into the folder `temporary`. */
  open(fileName: string, temporary: string): Promise<Readable>;
}

interface PublishedFile {
  readonly name: string;
  /** Size and hash of the IDX content, unpacked. */
  readonly bytes: number;
  readonly sha256: string;
}

const publishedFiles: readonly PublishedFile[] = [
  {
    name: 'train-images-idx3-ubyte',
    bytes: 47_040_016,
    sha256: 'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888',
  },
  {
    name: 'train-labels-idx1-ubyte',
    bytes: 60_008,
    sha256: 'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9',
  },
  {
    name: 't10k-images-idx3-ubyte',
    bytes: 7_840_016,
    sha256: '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b',
  },
  {
    name: 't10k-labels-idx1-ubyte',
    bytes: 10_008,
    sha256: '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34',
  },
];

const publishedAddress = 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com';
const debianPackage = 'dataset-fashion-mnist';
const debianFolder = '/usr/share/datasets/fashion-mnist';
const fetchTimeoutMs = 300_000;

const run = promisify(execFile);

/** The folder for what is fetched once and kept: `$CROSSTOWER_CACHE`, or `crosstower` in the user's cache folder. */
export function cacheFolder(environment: NodeJS.ProcessEnv): string {
  const { CROSSTOWER_CACHE: own, XDG_CACHE_HOME: users } = environment;
  if (own !== undefined && own !== '') return own;
  return join(users !== undefined && users !== '' ? users : join(homedir(), '.cache'), 'crosstower');
}

/** The ways to get Fashion-MNIST, the cheapest first. */
export function fashionMnistSources(): readonly FileSource[] {
  const installed: FileSource = {
    name: `Debian's package ${debianPackage}`,
    open: (file) => openFile(join(debianFolder, `${file}.gz`)),
  };
  let unpacked: Promise<string> | undefined;
  const downloadedPackage: FileSource = {
    name: `apt-get download ${debianPackage}`,
    open: async (file, temporary) => {
      unpacked ??= downloadPackage(temporary);
      return openFile(join(await unpacked, debianFolder, `${file}.gz`));
    },
  };
  const published: FileSource = { name: publishedAddress, open: (file) => download(`${publishedAddress}/${file}.gz`) };
  return [installed, downloadedPackage, published];
}

/**
 * The folder of the four files, fetched from the first of `sources` that has them where they are missing or damaged; throws DataError
 * saying what was tried and what to do.
 */
export async function fashionMnistFolder(
  cache: string,
  { sources, log }: { readonly sources: readonly FileSource[]; readonly log: (line: string) => void },
): Promise<string> {
  const folder = join(cache, 'fashion-mnist');
  const missing: PublishedFile[] = [];
  for (const file of publishedFiles) {
    const state = await stateOf(join(folder, file.name), file);
    if (state === 'damaged') log(`fashion-mnist: ${file.name} in ${folder} is damaged and will be replaced`);
    if (state !== 'good') missing.push(file);
  }
  if (missing.length > 0) await fetchFiles(folder, missing, sources, log);
  return folder;
}

async function fetchFiles(
  folder: string,
  files: readonly PublishedFile[],
  sources: readonly FileSource[],
  log: (line: string) => void,
): Promise<void> {
  const temporary = await makeTemporary(folder);
  const failures: string[] = [];
  try {
    for (const source of sources) {
      try {
        for (const file of files) {
          const opened = await source.open(file.name, temporary);
          log(`fashion-mnist: fetching ${file.name} (${(file.bytes / 1e6).toFixed(1)} MB unpacked) from ${source.name}`);
          await install(opened, file, folder, temporary);
        }
        return;
      } catch (error) {
        failures.push(`${source.name}: ${firstLine(error)}`);
      }
    }
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  throw new DataError(
    `Fashion-MNIST is not in ${folder} and could not be fetched (${failures.join('; ')}): ` +
      'put its four IDX files into a folder and give that folder with --data',
  );
}

async function makeTemporary(folder: string): Promise<string> {
  try {
    await mkdir(folder, { recursive: true });
    return await mkdtemp(join(folder, 'fetching-'));
  } catch (error) {
    throw new DataError(`Fashion-MNIST cannot be stored: ${firstLine(error)}; name a folder to write to with CROSSTOWER_CACHE`, {
      cause: error,
    });
  }
}

/** Unpacks a gzip file, and moves it to its place if its content is the published one. */
async function install(gzip: Readable, file: PublishedFile, folder: string, temporary: string): Promise<void> {
  const unpacked = join(temporary, file.name);
  const hash = createHash('sha256');
  const handle = await open(unpacked, 'w');
  try {
    let bytes = 0;
    // The loop gets the errors of both streams, and leaving it closes both: nothing is left for the callback.
    const chunks: AsyncIterable<Uint8Array> = pipeline(gzip, createGunzip(), () => undefined);
    for await (const chunk of chunks) {
      bytes += chunk.length;
      if (bytes > file.bytes) throw new DataError(`${file.name} is longer than the published file`);
      hash.update(chunk);
      await handle.writeFile(chunk);
    }
  } finally {
    await handle.close();
  }
  if (hash.digest('hex') !== file.sha256) throw new DataError(`${file.name} is not the published file (its SHA-256 differs)`);
  await rename(unpacked, join(folder, file.name));
}

async function stateOf(path: string, file: PublishedFile): Promise<'good' | 'damaged' | 'missing'> {
  const status = await stat(path).catch(() => undefined);
  if (status === undefined) return 'missing';
  if (!status.isFile() || status.size !== file.bytes) return 'damaged';
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>) hash.update(chunk);
  return hash.digest('hex') === file.sha256 ? 'good' : 'damaged';
}

async function openFile(path: string): Promise<Readable> {
  await stat(path);
  return createReadStream(path);
}

/** Gets Debian's package and unpacks it without installing it; needs no rights beyond those of the folder. */
async function downloadPackage(temporary: string): Promise<string> {
  await run('apt-get', ['download', debianPackage], { cwd: temporary, timeout: fetchTimeoutMs });
  const archive = (await readdir(temporary)).find((name) => name.endsWith('.deb'));
  if (archive === undefined) throw new DataError('apt-get left no package');
  const folder = join(temporary, 'package');
  await run('dpkg-deb', ['-x', join(temporary, archive), folder], { timeout: fetchTimeoutMs });
  return folder;
}

async function download(address: string): Promise<Readable> {
  const response = await fetch(address, { signal: AbortSignal.timeout(fetchTimeoutMs) });
  if (!response.ok || response.body === null) throw new DataError(`answered ${String(response.status)} for ${address}`);
  return Readable.fromWeb(response.body);
}

/** What went wrong in one line: the command's own words where a command failed, and fetch's cause, for it says more than fetch does. */
function firstLine(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { stderr } = error as { stderr?: unknown };
  if (typeof stderr === 'string' && stderr.trim() !== '') return stderr.trim().split('\n')[0] ?? '';
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message;
}
