SELECT sale AS order_id, line AS line_id, ware_id AS product_id, ware_id AS variant_id, quantity, price FROM sale_lines
