import { expect, test } from 'vitest'
import { FILE_SERVICE, TRANSFER_SERVICE } from './codec.ts'

/** Parts that are empty: of each, the generated codec makes an object. */
const emptyParts = (tag: number, count: number) => Buffer.alloc(2 * count, Buffer.of(tag, 0))

function lengthDelimited(tag: number, body: Buffer): Buffer {
  const head = [tag]
  let length = body.length
  for (; length > 127; length >>>= 7) head.push((length & 127) | 128)
  return Buffer.concat([Buffer.from([...head, length]), body])
}

const { GetManifest, Fetch, Push, FetchSmall } = TRANSFER_SERVICE
const floods: Record<string, [deserialize: (bytes: Buffer) => unknown, message: Buffer]> = {
  'small contents': [FetchSmall.responseDeserialize, emptyParts(0x0a, 500_000)],
  'ids of small contents': [FetchSmall.requestDeserialize, emptyParts(0x0a, 500_000)],
  'takers, of a provider': [Fetch.responseDeserialize, lengthDelimited(0x2a, emptyParts(0x0a, 500_000))],
  'takers, of a pusher': [Push.requestDeserialize, lengthDelimited(0x2a, emptyParts(0x0a, 500_000))],
  offers: [Push.requestDeserialize, emptyParts(0x1a, 500_000)],
  refusals: [Fetch.responseDeserialize, emptyParts(0x12, 500_000)],
  'pieces, of a pusher': [
    Push.requestDeserialize,
    lengthDelimited(0x22, lengthDelimited(0x0a, Buffer.alloc(1_000_000))),
  ],
  'wants, to a pusher': [
    Push.responseDeserialize,
    lengthDelimited(0x22, lengthDelimited(0x0a, Buffer.alloc(1_000_000))),
  ],
  'hashes of a manifest': [GetManifest.responseDeserialize, emptyParts(0x22, 500_000)],
  'ids of a manifest': [GetManifest.requestDeserialize, emptyParts(0x0a, 500_000)],
  'contents of an upload': [FILE_SERVICE.Upload.requestDeserialize, emptyParts(0x12, 500_000)],
}

test.each(Object.entries(floods))(
  'a message of %s without number is refused as corrupt',
  (_, [deserialize, message]) => {
    expect(() => deserialize(message)).toThrow(expect.objectContaining({ name: 'NetworkError', code: 'corrupt' }))
  },
)

test('what is legal is read, at its largest', () => {
  const contents = Array.from({ length: 1024 }, () => ({
    content_id: Buffer.alloc(32, 1),
    data: Buffer.alloc(1000, 2),
    code: 'not_found',
    message: 'gone',
  }))
  expect(FetchSmall.responseDeserialize(FetchSmall.responseSerialize({ contents })).contents).toHaveLength(1024)

  const content_ids = Array.from({ length: 1024 }, () => Buffer.alloc(32, 1))
  expect(FetchSmall.requestDeserialize(FetchSmall.requestSerialize({ content_ids })).content_ids).toHaveLength(1024)

  const contact = { peer: 'P'.repeat(64), host: '2001:db8:1111:2222:3333:4444:5555:6666', grpc_port: 65_535 }
  const takers = { kind: 'takers', takers: { contacts: Array(64).fill(contact) } } as const
  expect(Fetch.responseDeserialize(Fetch.responseSerialize(takers))).toEqual(takers)

  const everyOther = Array.from({ length: 262_144 }, (_, i) => (i % 2 === 0 ? i : 1))
  const have = { kind: 'have', have: { pieces: everyOther } } as const
  expect(Push.requestDeserialize(Push.requestSerialize(have))).toEqual(have)

  const add = Array.from({ length: 8192 }, (_, i) => (i % 2 === 0 ? i : 1))
  const want = { kind: 'want', want: { add, remove: add, credit: 1 } } as const
  expect(Fetch.requestDeserialize(Fetch.requestSerialize(want))).toEqual(want)
})
