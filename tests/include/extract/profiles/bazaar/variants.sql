SELECT id AS product_id, id AS variant_id, title, price, stock AS inventory_quantity FROM wares
