// A loader thread: takes batch requests, packs each into the memory that came with it. Started by loader.ts, never imported.
//
//     loader   { id, request, memory } -->     thread
//              <-- { type: 'loaded', id, ... }  or  { type: 'failed', id, ... }

import { parentPort, workerData } from 'node:worker_threads';
import { DataError } from '../spec/errors.ts';
import type { LoaderSetup, ThreadReply, ThreadRequest } from './loader.ts';
import { BadPictureError } from './decode.ts';
import { packBatch } from './pack.ts';
import { openPictures } from './pictures.ts';

if (parentPort === null) throw new Error('loaderThread runs in a worker thread only');
const port = parentPort;
const { splits, augment } = workerData as LoaderSetup;
const pictures = { train: openPictures(splits.train), test: openPictures(splits.test) };

port.on('message', ({ id, request, memory }: ThreadRequest) => {
  packBatch(pictures[request.split], augment, request, memory).then(
    ({ labels, shape, bad }) => {
      port.postMessage({ type: 'loaded', id, labels, shape, bad } satisfies ThreadReply);
    },
    (error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      const reply: ThreadReply = {
        type: 'failed',
        id,
        message,
        isDataError: error instanceof DataError || error instanceof BadPictureError,
      };
      port.postMessage(reply);
    },
  );
});
