import { expect, test } from 'vitest'
import type { PeerId } from '../common/ids.ts'
import { Neighbours } from './neighbours.ts'
import type { PieceSource } from './transfer/source.ts'

const neighbours = new Neighbours({
  self: () => ({ id: 'P1' as PeerId, host: '192.168.1.21', grpcPort: 50051 }),
  clients: { sourceAt: ({ peer }) => ({ peer }) as PieceSource },
  maestro: undefined,
  friends: () => [],
  contents: undefined as never,
  uploader: undefined as never,
})

test.each<[string, string, number, string, boolean]>([
  ['another machine', '192.168.1.22', 50051, '192.168.1.9:50051', true],
  ['the machine of the one who names it', 'lab-9.example', 50051, 'lab-9.example:8000', true],
  ['another agent here', '192.168.1.21', 50052, '192.168.1.9:50051', true],
  ['loopback, by one who is there', '127.0.0.1', 50051, '127.0.0.1:8000', true],
  ['loopback, by one who is not', '127.0.0.1', 50051, '192.168.1.9:50051', false],
  ['a name, that could lead anywhere', '127.0.0.1.nip.example', 50051, '192.168.1.9:50051', false],
  ['a name of loopback', 'ip6-localhost', 50051, '192.168.1.9:50051', false],
  ['the metadata service', '169.254.169.254', 80, '192.168.1.9:50051', false],
  ['this agent, under whatever name', '192.168.1.21', 50051, '192.168.1.9:50051', false],
])('what a stranger names is called where a peer can be: %s', (_, host, grpcPort, from, called) => {
  expect(neighbours.sourceAt({ peer: 'P7' as PeerId, host, grpcPort }, from) !== undefined).toBe(called)
})
