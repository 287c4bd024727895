import { connect } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { createApp, listen } from '../../common/http.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { EMPTY_ID } from '../../common/merkle.ts'
import { createMetrics } from '../../common/metrics.ts'
import type { ContentReader } from '../transfer/contents.ts'
import { addFileRoutes, type ServedFiles } from './files.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** One endless file, over real HTTP; `open` are its readers. */
async function serve() {
  const open = new Set<ContentReader>()
  let opened = 0
  const file = { name: 'big' as FileName, size: 2 ** 40, id: EMPTY_ID, mtimeNs: 0n }
  const files: ServedFiles = {
    revision: 1,
    size: 1,
    get: () => file,
    list: () => [file],
    open: () => {
      const reader = { size: file.size, read: async () => {}, close: () => void open.delete(reader) }
      open.add(reader)
      opened++
      return reader
    },
    receive: () => Promise.reject(new Error('not here')),
    refresh: async () => {},
  }
  const app = createApp({ title: '', description: '', log: silentLog, metrics: createMetrics('test') })
  addFileRoutes(app, { files, self: () => ({ id: 'P1' as PeerId, rest: 'http://127.0.0.1:1', grpcPort: 1 }) })
  const listening = await listen(app, '127.0.0.1', 0)
  cleanups.push(() => listening.close(0))
  return { port: listening.port, open, opened: () => opened }
}

test.each([
  ['one request', 1],
  ['twenty requests in a row, most of them not answered yet', 20],
])('a client that goes away after %s leaves no file open', async (_, requests) => {
  const { port, open, opened } = await serve()
  const socket = connect(port, '127.0.0.1', () =>
    socket.write('GET /files/big HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(requests)),
  )
  socket.on('error', () => {})
  await expect.poll(opened).toBe(requests)
  expect(open.size).toBe(requests)
  socket.resetAndDestroy()
  await expect.poll(() => open.size).toBe(0)
})

test('a question for the head alone opens nothing', async () => {
  const { port, opened } = await serve()
  const response = await fetch(`http://127.0.0.1:${port}/files/big`, { method: 'HEAD' })
  expect(response.headers.get('content-length')).toBe(String(2 ** 40))
  expect(opened()).toBe(0)
})
