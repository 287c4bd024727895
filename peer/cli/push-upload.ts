import type { Stats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { systemClock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import { RpcClients } from '../rpc/client.ts'
import { pushFile } from '../rpc/push.ts'
import type { ContentReader } from '../transfer/contents.ts'
import { Uploader } from '../transfer/uploader.ts'
import type { Cli } from './cli.ts'
import { hashOpen, openRegular } from './hash.ts'
import { findTarget } from './target.ts'
import type { Item, Uploaded } from './uploaded.ts'

/**
 * Pushes files to another peer, over gRPC, from this process.
 * @throws NetworkError as `findTarget`, before any file is touched
 */
export async function pushUpload(to: string, dummy: boolean, cli: Cli): Promise<(item: Item) => Promise<Uploaded>> {
  const { target, rest } = await findTarget(to, cli)
  const clients = new RpcClients()
  cli.onClose(async () => clients.close())
  const uploader = new Uploader({ clock: systemClock })
  return async ({ path, name }) => {
    const file = await openRegular(path)
    try {
      const stat = await file.stat()
      const manifest = await hashOpen(file, path, cli)
      const progress = cli.out.progress(name)
      // Nothing is sent of an empty file in any case, so that the peer has to be asked.
      const isThere =
        stat.size === 0 && (await rest.search({ file: name })).matches.some(({ id }) => id === manifest.id)
      const begin = performance.now()
      const { bytes, simulated } = await pushFile(
        { clients, uploader },
        target,
        {
          filename: name,
          manifest,
          reader: unchangedReader(file, stat, path),
          dummy,
          onProgress: (sent) => progress.update(Math.min(sent, stat.size), stat.size),
        },
        cli.io.signal,
      )
        .catch((error: unknown) => {
          throw refusal(error, target.peer, name)
        })
        .finally(() => progress.stop())
      const seconds = (performance.now() - begin) / 1000
      const outcome = simulated ? 'simulated' : isThere || (bytes === 0 && stat.size > 0) ? 'there already' : 'shared'
      return { name, size: stat.size, id: manifest.id, outcome, to: target.peer, bytes, seconds }
    } finally {
      await file.close()
    }
  }
}

/** The error with the peer's name in it: what that one calls "here" is elsewhere for the reader. */
function refusal(error: unknown, peer: PeerId, name: FileName): NetworkError {
  const known = asNetworkError(error)
  if (known.details.peer !== peer || known.message.includes(peer)) return known
  const message =
    known.code === 'conflict'
      ? `${peer} shares another content as "${name}", which stays as it is: give yours another name with --as`
      : `${peer} refuses: ${known.message}`
  return new NetworkError(known.code, message, known.details, known)
}

/** Reads a file as long as it is the one that was hashed. */
function unchangedReader(file: FileHandle, hashed: Stats, path: string): Pick<ContentReader, 'read'> {
  return {
    async read(into, position) {
      let filled = 0
      while (filled < into.length) {
        const { bytesRead } = await file.read(into, filled, into.length - filled, position + filled)
        if (bytesRead === 0) break
        filled += bytesRead
      }
      const { size, mtimeMs } = await file.stat()
      if (filled < into.length || size !== hashed.size || mtimeMs !== hashed.mtimeMs)
        throw new NetworkError('conflict', `${path} changed while it was sent: try again once it is left alone`)
    },
  }
}
