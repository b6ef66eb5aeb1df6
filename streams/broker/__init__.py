"""The embedded broker: one node, Kafka's protocol on loopback, synced segment files."""

from streamtable.streams.broker.broker import Broker
from streamtable.streams.broker.errors import DamagedSegment, DataInUse, PortTaken
from streamtable.streams.broker.settings import BrokerSettings

__all__ = ["Broker", "BrokerSettings", "DamagedSegment", "DataInUse", "PortTaken"]
