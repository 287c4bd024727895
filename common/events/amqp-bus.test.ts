import { beforeEach, type TestContext } from 'vitest'
import { systemClock } from '../clock.ts'
import { silentLog } from '../log.ts'
import { AmqpBus } from './amqp-bus.ts'
import { busContract } from './bus.contract.ts'
import { brokerUrl, cuttingProxy, TestNetwork, through } from './rabbitmq.fixture.ts'

let url: string
beforeEach(async (t) => {
  url = await brokerUrl(t as TestContext)
})

busContract('RabbitMQ', async () => {
  const network = new TestNetwork(url, ['P1', 'P2', 'P3'])
  const { hostname, port } = new URL(url)
  const target = { host: hostname, port: Number(port || 5672) }
  const proxy = await cuttingProxy(target)
  const own = new Map<unknown, Awaited<ReturnType<typeof cuttingProxy>>>()
  return {
    async bus(self, deps) {
      const way = await cuttingProxy({ host: '127.0.0.1', port: proxy.port })
      const bus = new AmqpBus(
        { ...deps, clock: systemClock, logger: silentLog },
        { url: through(way, url), prefix: network.prefix, self, mailbox: true },
      )
      own.set(bus, way)
      return bus
    },
    async kill(bus) {
      await own.get(bus)?.refuse()
      await bus.stop()
    },
    interrupt: () => proxy.refuse(),
    restore: () => proxy.heal(),
    inject: (_peer, text) => network.publish(text),
  }
})
