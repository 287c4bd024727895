import { rate, restarts, withBroker } from './event-broker.ts'
import { barrier, latency, readers } from './event-paths.ts'
import type { Measurement } from './report.ts'

/** Events by the Maestro and by a RabbitMQ of the benchmark's own. @param only these parts (default: all) */
export async function events(only?: readonly string[]): Promise<Measurement[]> {
  const parts: Record<string, () => Promise<Measurement[]>> = {
    restarts,
    rate,
    readers,
    latency: async () => [
      ...(await latency('embedded', 'embedded', 'p2p')),
      ...((await withBroker((broker) => latency('RabbitMQ', broker.url, 'bench'))) ?? []),
    ],
    barrier,
  }
  const rows: Measurement[] = []
  for (const [name, measure] of Object.entries(parts))
    if (only === undefined || only.includes(name)) rows.push(...(await measure()))
  return rows
}
