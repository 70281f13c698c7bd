// The set-up's decisions, on small caches and clones made by hand: what counts as whole, what is done again, who waits.
// Nothing is downloaded or compiled here; that whole way is walked by whoever runs `npm test` in a fresh clone.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decoderAttempt, isDecoderDue } from '../../scripts/setup/jpegDecoder.mjs';
import { link } from '../../scripts/setup/link.mjs';
import { takeLock } from '../../scripts/setup/lock.mjs';
import { missingTools, unsupportedPlatform } from '../../scripts/setup/machine.mjs';
import { packagesAreInstalled } from '../../scripts/setup/project.mjs';
import { chooseDevice, findTensorflow, tensorflowFolder } from '../../scripts/setup/tensorflow.mjs';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'crosstower-setup-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function write(name, content) {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

describe('TensorFlow in the cache', () => {
  function unpacked(libraries) {
    const sizes = Object.fromEntries(Object.entries(libraries).map(([name, content]) => [name, content.length]));
    const whole = tensorflowFolder('', 'gpu');
    for (const [name, content] of Object.entries(libraries)) write(join(whole, name), content);
    write(join(whole, 'contents.json'), JSON.stringify(sizes));
    return join(folder, whole);
  }

  it('is found when every library has its full size, with the folders of NVIDIA', () => {
    const whole = unpacked({
      'tensorflow/libtensorflow_cc.so.2': 'code',
      'nvidia/cudnn/lib/libcudnn.so.9': 'code',
      'nvidia/cublas/lib/libcublas.so.12': 'code',
      'nvidia/cublas/lib/libcublasLt.so.12': 'code',
    });
    expect(findTensorflow(folder, 'gpu')).toEqual({
      folder: whole,
      libraryPath: [join(whole, 'nvidia/cublas/lib'), join(whole, 'nvidia/cudnn/lib')],
    });
  });

  it('is not found when a library is cut short, or gone, or the list of contents was never written', () => {
    const whole = unpacked({ 'tensorflow/libtensorflow_cc.so.2': 'code' });
    const library = join(whole, 'tensorflow/libtensorflow_cc.so.2');
    writeFileSync(library, 'co');
    expect(findTensorflow(folder, 'gpu')).toBeUndefined();
    rmSync(library);
    expect(findTensorflow(folder, 'gpu')).toBeUndefined();
    writeFileSync(library, 'code');
    rmSync(join(whole, 'contents.json'));
    expect(findTensorflow(folder, 'gpu')).toBeUndefined();
  });

  it('is another one for the CPU', () => {
    unpacked({ 'tensorflow/libtensorflow_cc.so.2': 'code' });
    expect(findTensorflow(folder, 'cpu')).toBeUndefined();
  });

  it('takes the device from the user, and nothing but cpu or gpu', () => {
    expect(chooseDevice('gpu')).toBe('gpu');
    expect(() => chooseDevice('tpu')).toThrow("CROSSTOWER_DEVICE is 'tpu' and must be cpu or gpu");
  });
});

describe('unpacking a wheel', () => {
  const unpacker = join(import.meta.dirname, '../../scripts/setup/unpack_wheels.py');
  const library = 'tensorflow/libtensorflow_cc.so.2';

  /** A wheel with one library, one Python file, and a RECORD that was made for `recorded`. */
  function makeWheel(recorded) {
    const wheel = join(folder, 'some.whl');
    const script = `
import base64, hashlib, sys, zipfile
wheel, library, recorded = sys.argv[1:]
digest = base64.urlsafe_b64encode(hashlib.sha256(recorded.encode()).digest()).rstrip(b'=').decode()
with zipfile.ZipFile(wheel, 'w') as archive:
    archive.writestr(library, 'code')
    archive.writestr('tensorflow/python/framework.py', 'pass')
    archive.writestr('some-1.dist-info/RECORD', f'{library},sha256={digest},4\\n')
`;
    expect(spawnSync('python3', ['-c', script, wheel, library, recorded], { encoding: 'utf8' }).stderr).toBe('');
    return wheel;
  }

  it('takes the libraries only, says their sizes, and deletes the wheel', () => {
    const wheel = makeWheel('code');
    const { stdout, status } = spawnSync('python3', [unpacker, join(folder, 'out'), wheel], { encoding: 'utf8' });
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ [library]: 4 });
    expect(readFileSync(join(folder, 'out', library), 'utf8')).toBe('code');
    expect(existsSync(join(folder, 'out/tensorflow/python'))).toBe(false);
    expect(existsSync(wheel)).toBe(false);
  });

  it('fails on a file that is not what RECORD says', () => {
    const wheel = makeWheel('other code');
    const { stderr, status } = spawnSync('python3', [unpacker, join(folder, 'out'), wheel], { encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toContain(`${library} is not what some.whl says it should be`);
  });
});

describe('node_modules', () => {
  const here = { 'node_modules/zod': { version: '4.0.0', integrity: 'sha512-a' } };
  const asked = {
    '': { version: '0.1.0' },
    ...here,
    'node_modules/binding-darwin': { version: '1.0.0', integrity: 'sha512-b', optional: true },
  };
  function clone(installed) {
    write('package-lock.json', JSON.stringify({ packages: asked }));
    if (installed) write('node_modules/.package-lock.json', JSON.stringify({ packages: installed }));
    return folder;
  }

  it('is up to date with all that is not optional', () => {
    expect(packagesAreInstalled(clone(here))).toBe(true);
  });

  it.each([
    ['missing', undefined],
    ['without a package', {}],
    ['with another version', { 'node_modules/zod': { version: '3.0.0', integrity: 'sha512-c' } }],
    ['with other content', { 'node_modules/zod': { version: '4.0.0', integrity: 'sha512-c' } }],
    ['with a package too many', { ...here, 'node_modules/left-pad': { version: '1.0.0' } }],
  ])('is stale when it is %s', (_, installed) => {
    expect(packagesAreInstalled(clone(installed))).toBe(false);
  });
});

describe('the lock', () => {
  it('is there while it is held, and gone afterwards', async () => {
    const path = join(folder, 'setup.lock');
    const release = await takeLock(path);
    expect(readFileSync(path, 'utf8')).toBe(`${process.pid} ${hostname()}`);
    release();
    expect(existsSync(path)).toBe(false);
  });

  it('is waited for while its owner lives', async () => {
    const path = join(folder, 'setup.lock');
    const releaseFirst = await takeLock(path);
    let second;
    const taking = takeLock(path).then((release) => (second = release));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(second).toBeUndefined();
    releaseFirst();
    (await taking)();
  });

  it('is taken over from an owner that is gone', async () => {
    const dead = spawn('true');
    await once(dead, 'exit');
    const path = write('setup.lock', `${dead.pid} ${hostname()}`);
    (await takeLock(path))();
  });

  it('is taken over when nobody has touched it for a minute', async () => {
    const path = write('setup.lock', '1 some-other-machine');
    const longAgo = new Date(Date.now() - 61_000);
    utimesSync(path, longAgo, longAgo);
    (await takeLock(path))();
  });
});

describe('what the machine lacks', () => {
  it('names the Node versions that fit', () => {
    expect(unsupportedPlatform('20.19.0', 'linux-x64')).toEqual([]);
    expect(unsupportedPlatform('22.21.1', 'linux-x64')).toEqual([]);
    for (const version of ['18.20.0', '20.18.3', '23.0.0', '24.1.0']) {
      expect(unsupportedPlatform(version, 'linux-x64')).toEqual([expect.stringContaining(`Node ${version} does not fit`)]);
    }
  });

  it('says so on another platform', () => {
    expect(unsupportedPlatform('20.19.0', 'darwin-arm64')).toEqual([expect.stringContaining('this is darwin-arm64')]);
  });

  it('is one sentence for each missing program, with the command that mends it', () => {
    const path = process.env.PATH;
    process.env.PATH = folder;
    try {
      const problems = missingTools({ cache: folder, device: 'cpu', download: true, compile: true });
      expect(problems).toEqual(
        expect.arrayContaining([
          expect.stringMatching(/^python3 is missing .*: sudo apt-get install python3 python3-pip$/),
          expect.stringMatching(/^g\+\+ is missing .*: sudo apt-get install g\+\+$/),
        ]),
      );
    } finally {
      process.env.PATH = path;
    }
  });

  it('is nothing when nothing is pending', () => {
    expect(missingTools({ cache: folder, device: 'gpu', download: false, compile: false })).toEqual([]);
  });
});

describe('an attempt to make the JPEG decoder', () => {
  /** A clone with what the decoder is made of, and the compiler that is found first. */
  function clone(source, compiler) {
    write('package-lock.json', JSON.stringify({ packages: { 'node_modules/node-api-headers': { integrity: 'sha512-a' } } }));
    write('src/data/native/cutJpeg.cc', source);
    chmodSync(write('bin/g++', `#!/bin/sh\necho '${compiler}'\necho more`), 0o755);
    return folder;
  }

  function attempt(source, compiler) {
    const path = process.env.PATH;
    process.env.PATH = `${join(folder, 'bin')}:${path}`;
    try {
      return decoderAttempt(clone(source, compiler), 'cache', 'cpu');
    } finally {
      process.env.PATH = path;
    }
  }

  it('is the same until the sources or the compiler are others', () => {
    const first = attempt('int main;', 'g++ 12.2');
    expect(first).toMatch(/^jpeg-[0-9a-f]{12} by g\+\+ 12.2$/);
    expect(attempt('int main;', 'g++ 12.2')).toBe(first);
    expect(attempt('int main;', 'g++ 13.1')).not.toBe(first);
    expect(attempt('int other;', 'g++ 12.2')).not.toBe(first);
  });

  it('that failed is made again when asked, or when another one can be made; one that has not been made is due', () => {
    expect(isDecoderDue('one', { jpegFailure: 'one' }, false)).toBe(false);
    expect(isDecoderDue('one', { jpegFailure: 'one' }, true)).toBe(true);
    expect(isDecoderDue('two', { jpegFailure: 'one' }, false)).toBe(true);
    expect(isDecoderDue('one', undefined, false)).toBe(true);
    expect(isDecoderDue('one', { jpegFailure: null }, false)).toBe(true);
  });
});

describe('a link', () => {
  it('replaces an older link, a file and a folder', () => {
    const path = join(folder, 'deps/lib');
    link('/first', path);
    link('/second', path);
    expect(readlinkSync(path)).toBe('/second');
    rmSync(path);
    write('deps/lib/file', 'content');
    link('/third', path);
    expect(readlinkSync(path)).toBe('/third');
  });

  it('is left alone when it is right', () => {
    const path = join(folder, 'deps/lib');
    link('/first', path);
    const { ino } = lstatSync(path);
    link('/first', path);
    expect(lstatSync(path).ino).toBe(ino);
  });
});
