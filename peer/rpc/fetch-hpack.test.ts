import { once } from 'node:events'
import { connect as connectHttp2, createServer, type IncomingHttpHeaders } from 'node:http2'
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeHeaders, encodeHeaders } from './fetch-hpack.ts'

describe('header blocks', () => {
  // RFC 7541, appendix C.4 and C.6, without what goes into a dynamic table.
  test.each([
    ['88', { ':status': '200' }],
    ['08 03 33 30 32', { ':status': '302' }],
    ['48 82 64 02', { ':status': '302' }],
    ['58 85 ae c3 77 1a 4b', {}],
    ['40 88 25 a8 49 e9 5b a9 7d 7f 89 25 a8 49 e9 5b b8 e8 b4 bf', { 'custom-key': 'custom-value' }],
    ['20 88', { ':status': '200' }],
    ['00 01 61 00', { a: '' }],
  ])('%s say what the RFC says', (hex, headers) => {
    expect(Object.fromEntries(decodeHeaders(Buffer.from(hex.replaceAll(' ', ''), 'hex')))).toEqual(headers)
  })

  test.each([
    ['a reference to a dynamic table', 'be'],
    ['a name out of a dynamic table', '7e0161'],
    ['a table that was not allowed', '3fe11f'],
    ['no name', '80'],
    ['a text that ends early', '00016105'],
    ['a number that ends early', 'ff'],
    ['a number too large', '007fffffffffffff7f'],
    ['padding that is none', '00016181fe'],
    ['an end mark in a text', '00016184ffffffff'],
    ['a whole byte of padding', '000161821fff'],
  ])('with %s are refused', (_, hex) => {
    expect(() => decodeHeaders(Buffer.from(hex, 'hex'))).toThrow()
  })

  test('of any bytes are decoded or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          expect(decodeHeaders(Buffer.from(bytes))).toBeInstanceOf(Map)
        } catch (error) {
          expect((error as Error).message).toMatch(/header|table|text|number/)
        }
      }),
    )
  })

  test('are decoded as they were encoded', () => {
    const headers: [string, string][] = [
      ['a', 'b'],
      ['long', 'x'.repeat(127)],
      ['longer', 'y'.repeat(5000)],
    ]
    expect([...decodeHeaders(encodeHeaders(headers))]).toEqual(headers)
  })

  test('that a real server packs are decoded, every byte of a text', async () => {
    // A value of each byte that may be in one; the server's HEADERS frame is taken off the wire.
    const values = Array.from({ length: 256 - 32 }, (_, i) => i + 32).filter((byte) => byte !== 127)
    const sent = Object.fromEntries(values.map((byte) => [`h-${byte}`, `|${String.fromCharCode(byte)}|`]))
    const block = await headerBlockOf(sent)
    const decoded = decodeHeaders(block)
    for (const [name, value] of Object.entries(sent)) expect([name, decoded.get(name)]).toEqual([name, value])
  })
})

/** What node:http2 makes of response headers for a client without a header table. */
async function headerBlockOf(headers: Record<string, string>): Promise<Buffer> {
  const server = createServer()
  server.on('stream', (stream) => stream.respond({ ':status': 200, ...headers }, { endStream: true }))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const seen: Buffer[] = []
  const between = createTcpServer((from: Socket) => {
    const to = connect((server.address() as AddressInfo).port, '127.0.0.1')
    to.on('error', () => {})
    from.on('error', () => {})
    from.pipe(to)
    to.on('data', (chunk: Buffer) => {
      seen.push(chunk)
      from.write(chunk)
    })
  })
  between.listen(0, '127.0.0.1')
  await once(between, 'listening')
  const { port } = between.address() as AddressInfo
  const session = connectHttp2(`http://127.0.0.1:${port}`, {
    settings: { headerTableSize: 0 },
    maxHeaderListPairs: 1000,
  })
  const stream = session.request({ ':path': '/' })
  const [answer] = (await once(stream, 'response')) as [IncomingHttpHeaders]
  expect(answer[':status']).toBe(200)
  session.destroy()
  server.close()
  between.close()
  const bytes = Buffer.concat(seen)
  for (let at = 0; at < bytes.length; at += 9 + bytes.readUIntBE(at, 3))
    if (bytes[at + 3] === 1) return bytes.subarray(at + 9, at + 9 + bytes.readUIntBE(at, 3))
  throw new Error('no headers on the wire')
}
