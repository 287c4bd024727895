import { createRoute } from '@hono/zod-openapi'
import mime from 'mime-types'
import { z } from 'zod'
import { NetworkError } from '../../common/errors.ts'
import { type App, type AppContext, answer, refusal } from '../../common/http.ts'
import { type ContentId, type FileName, parseFileName } from '../../common/ids.ts'
import { folderRange } from '../../common/paging.ts'
import {
  type PeerFile,
  PeerFileSchema,
  PeerFilesQuery,
  PeerFilesResponse,
  RefreshResponse,
} from '../../common/schemas.ts'
import type { LocalFile, Self } from '../locate/local.ts'
import type { ContentReader } from '../transfer/contents.ts'

/** The catalog, as REST serves it. */
export interface ServedFiles {
  readonly revision: number
  readonly size: number
  get(name: FileName): LocalFile | undefined
  /** sorted by name, those after `after` */
  list(page: { after?: string | undefined; limit: number }): LocalFile[]
  open(id: ContentId): ContentReader
  /** Lands a body under a name, hashed and whole. `created` is false where the same content was there already. */
  receive(name: FileName, body: AsyncIterable<Uint8Array>): Promise<{ file: LocalFile; created: boolean }>
  refresh(): Promise<void>
}

/** A file as REST tells of it. */
export function peerFile({ name, size, id, mtimeNs }: LocalFile): PeerFile {
  return { name, size, id, modified: new Date(Number(mtimeNs / 1_000_000n)).toISOString() }
}

const tags = ['files']
const CHUNK = 256 * 1024

export function addFileRoutes(app: App, deps: { files: ServedFiles; self: () => Self }): void {
  const { files, self } = deps
  app.openapi(
    createRoute({
      method: 'get',
      path: '/files',
      tags,
      request: { query: PeerFilesQuery },
      responses: {
        200: answer(PeerFilesResponse, 'what this peer shares: names, or with details=1 sizes and ids too'),
        default: refusal,
      },
    }),
    (c) => {
      const { limit, after, under, details } = c.req.valid('query')
      const folder = folderRange(under)
      const from = folder.from(after === undefined ? undefined : parseFileName(after))
      const page = files.list({ after: from, limit: limit + 1 }).filter(({ name }) => folder.holds(name))
      const rows = page.slice(0, limit)
      const next = page.length > limit ? (rows.at(-1)?.name ?? null) : null
      const { id: peer, grpcPort: grpc_port } = self()
      return c.json(
        { peer, grpc_port, files: details === '1' ? rows.map(peerFile) : rows.map((file) => file.name), next },
        200,
      )
    },
  )
  app.openapi(
    createRoute({
      method: 'post',
      path: '/refresh',
      tags,
      responses: {
        200: answer(RefreshResponse, 'the folder is scanned again, changed files are hashed'),
        default: refusal,
      },
    }),
    async (c) => {
      await files.refresh()
      return c.json({ files: files.size, revision: files.revision }, 200)
    },
  )

  // A name has "/" in it, which OpenAPI's path parameters can't say to the router: documented and routed apart.
  const params = z.object({ name: z.string().meta({ description: 'file name, with "/" for sub-folders' }) })
  const bytes = { 'application/octet-stream': { schema: z.string().meta({ format: 'binary' }) } }
  app.openAPIRegistry.registerPath({
    method: 'get',
    path: '/files/{name}',
    tags,
    request: { params },
    responses: {
      200: { description: 'the bytes; ETag is the content id', content: bytes },
      206: { description: 'the range asked for', content: bytes },
      304: { description: 'the ETag in If-None-Match is still right' },
      416: { description: 'no such range' },
      default: refusal,
    },
  })
  app.openAPIRegistry.registerPath({
    method: 'put',
    path: '/files/{name}',
    tags,
    request: { params, body: { content: bytes } },
    responses: {
      200: answer(PeerFileSchema, 'the same content is there already'),
      201: answer(PeerFileSchema, 'it is shared'),
      409: answer(refusal.content['application/json'].schema, 'the name has other content'),
      default: refusal,
    },
  })
  app.get('/files/:name{.+}', (c) => serve(c, files))
  app.put('/files/:name{.+}', async (c) => {
    const { file, created } = await files.receive(parseFileName(c.req.param('name')), c.req.raw.body ?? emptyBody())
    return c.json(peerFile(file), created ? 201 : 200)
  })
}

async function* emptyBody(): AsyncGenerator<Uint8Array> {}

function serve(c: AppContext, files: ServedFiles): Response {
  const name = parseFileName(c.req.param('name') ?? '')
  const file = files.get(name)
  if (!file) throw new NetworkError('not_found', `this peer does not share "${name}"`)
  const etag = `"${file.id}"`
  const headers: Record<string, string> = {
    etag,
    'accept-ranges': 'bytes',
    'last-modified': new Date(Number(file.mtimeNs / 1_000_000n)).toUTCString(),
    'content-type': mime.lookup(name) || 'application/octet-stream',
    // A shared page must not run as a page of this agent: that origin may change things here.
    'content-security-policy': "sandbox; default-src 'none'",
    'x-content-type-options': 'nosniff',
    'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(name.slice(name.lastIndexOf('/') + 1))}`,
  }
  if (c.req.header('if-none-match') === etag) return c.body(null, 304, headers)
  const ifRange = c.req.header('if-range')
  const range = ifRange === undefined || ifRange === etag ? parseRange(c.req.header('range'), file.size) : undefined
  if (range === 'unsatisfiable') return c.body(null, 416, { ...headers, 'content-range': `bytes */${file.size}` })
  const { first, last } = range ?? { first: 0, last: file.size - 1 }
  headers['content-length'] = String(last - first + 1)
  if (range) headers['content-range'] = `bytes ${first}-${last}/${file.size}`
  const status = range ? 206 : 200
  if (c.req.method === 'HEAD') return c.body(null, status, headers)
  const reader = openFor(c, () => files.open(file.id))
  return c.body(bytesOf(reader, first, last + 1), status, headers)
}

/** A single range of RFC 9110 §14.1.2; undefined where there is none, or several, which may be answered with the whole. */
function parseRange(
  header: string | undefined,
  size: number,
): { first: number; last: number } | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '')
  if (!match || (match[1] === '' && match[2] === '')) return undefined
  const suffix = match[1] === ''
  const first = suffix ? Math.max(0, size - Number(match[2])) : Number(match[1])
  const last = suffix || match[2] === '' ? size - 1 : Math.min(Number(match[2]), size - 1)
  if (first >= size) return 'unsatisfiable'
  return first > last ? undefined : { first, last }
}

/** A reader that is closed with the connection: an answer that waits behind others on it is not told of its end. */
function openFor(c: AppContext, open: () => ContentReader): ContentReader {
  const reader = open()
  const connection = c.env?.incoming?.socket
  if (!connection) return reader
  const close = () => {
    connection.off('close', close)
    reader.close()
  }
  connection.once('close', close)
  if (connection.destroyed) close()
  return { size: reader.size, read: (into, position) => reader.read(into, position), close }
}

/** Bytes begin … end-1, read as they are taken; errors, and so cuts the connection, where the file changes meanwhile. */
function bytesOf(reader: ContentReader, begin: number, end: number): ReadableStream<Uint8Array> {
  let position = begin
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          if (position >= end) {
            reader.close()
            return controller.close()
          }
          const chunk = new Uint8Array(Math.min(CHUNK, end - position))
          await reader.read(chunk, position)
          position += chunk.length
          controller.enqueue(chunk)
        } catch (error) {
          reader.close()
          controller.error(error)
        }
      },
      cancel: () => reader.close(),
    },
    { highWaterMark: 0 },
  )
}
