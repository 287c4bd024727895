import type { EventOf, EventType } from './event.ts'
import type { OfferMail, ReceiptMail } from './mail.ts'

/** One of each, as people read them in the documentation; the document's test holds them against the schemas. */

type Written<T> = T extends string ? string : T extends object ? { [K in keyof T]: Written<T[K]> } : T

const lecture = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'
const film = '2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae'

const fetched = { transfer: '3', direction: 'download', mode: 'real', file: 'film.mkv', id: film, size: 1_100_000_000 }

export const EVENT_EXAMPLES: { [T in EventType]: Written<EventOf<T>> } = {
  'peer.registered': {
    ...at('maestro', 7, '2026-03-02T08:00:00.000Z'),
    type: 'peer.registered',
    data: { peer: 'P1', rest: 'http://192.168.1.20:8000', grpc_port: 50051, files: 12 },
  },
  'peer.expired': {
    ...at('maestro', 9, '2026-03-02T09:30:12.000Z'),
    type: 'peer.expired',
    data: { peer: 'P3' },
  },
  'peer.withdrawn': {
    ...at('maestro', 8, '2026-03-02T09:10:00.000Z'),
    type: 'peer.withdrawn',
    data: { peer: 'P2' },
  },
  'file.added': {
    ...at('P1', 42, '2026-03-02T09:00:00.120Z'),
    type: 'file.added',
    data: { name: 'lectures/a.pdf', id: lecture, size: 1_200_000, revision: { from: 7, to: 8 } },
  },
  'file.removed': {
    ...at('P1', 44, '2026-03-02T09:20:00.000Z'),
    type: 'file.removed',
    data: { name: 'lectures/draft.pdf', revision: { from: 9, to: 10 } },
  },
  'file.renamed': {
    ...at('P1', 43, '2026-03-02T09:05:00.000Z'),
    type: 'file.renamed',
    data: {
      name: 'lectures/week1.pdf',
      id: lecture,
      size: 1_200_000,
      revision: { from: 8, to: 9 },
      from: 'lectures/a.pdf',
    },
  },
  'transfer.started': {
    ...at('P2', 5, '2026-03-02T09:01:00.000Z'),
    type: 'transfer.started',
    data: { ...fetched, size: null },
  },
  'transfer.completed': {
    ...at('P2', 6, '2026-03-02T09:01:06.700Z'),
    type: 'transfer.completed',
    data: { ...fetched, bytes: 1_100_000_000, seconds: 6.7 },
  },
  'transfer.failed': {
    ...at('P2', 8, '2026-03-02T09:03:00.000Z'),
    type: 'transfer.failed',
    data: {
      ...fetched,
      transfer: '4',
      error: { code: 'unavailable', message: 'the disk is full: free some space and try again' },
    },
  },
  'network.degraded': {
    ...at('P1', 45, '2026-03-02T10:00:00.000Z'),
    type: 'network.degraded',
    data: { before: 'maestro', level: 'ring', text: 'Maestro down: using the ring' },
  },
  'network.restored': {
    ...at('P1', 46, '2026-03-02T10:02:00.000Z'),
    type: 'network.restored',
    data: { before: 'ring', level: 'maestro', text: 'using the Maestro' },
  },
}

const left = { v: 1, sent: '2026-03-02T09:00:00.000Z', expires: '2026-04-01T09:00:00.000Z' } as const
const OFFER = 'k3v9x0q2m7abt5'

export const MAIL_EXAMPLES: { OfferMail: Written<OfferMail>; ReceiptMail: Written<ReceiptMail> } = {
  OfferMail: {
    ...left,
    id: OFFER,
    from: 'P1',
    to: 'P2',
    kind: 'offer',
    name: 'film.mkv',
    content: film,
    size: 1_100_000_000,
  },
  ReceiptMail: {
    ...left,
    id: 'c81mz7e0r4yhq2',
    from: 'P2',
    to: 'P1',
    kind: 'receipt',
    offer: OFFER,
    state: 'delivered',
    reason: null,
  },
}

function at(origin: string, seq: number, time: string) {
  return { v: 1 as const, id: `${origin.toLowerCase()}q2m7abk3v9x0.${seq}`, origin, seq, time }
}
